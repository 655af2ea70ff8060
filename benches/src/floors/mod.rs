//! The least that PostgreSQL can do for the same work.

mod commit;
mod insert;
mod select;

pub(crate) use commit::{commits, durable_commits};
pub(crate) use insert::{InsertMany, InsertOne};
pub(crate) use select::{Fold, LOAD_STREAM, PAGE, READ_ALL, STREAM, feed_pages, stream_select};

/// A table of our own like the store's: the same columns, the same three indexes, no trigger.
pub(crate) const TABLES: &str = "
    CREATE SCHEMA floor;
    CREATE SEQUENCE floor.positions AS bigint;
    CREATE TABLE floor.events (LIKE mire.events INCLUDING ALL);
";
