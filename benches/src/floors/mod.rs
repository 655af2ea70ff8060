//! The least that PostgreSQL can do for the same work, and what many would write by hand.

mod commit;
mod global_lock;
mod insert;
mod select;

pub(crate) use commit::{commits, durable_commits};
pub(crate) use global_lock::{GlobalLock, OneLock, WriteMessage};
pub(crate) use insert::{InsertMany, InsertOne};
pub(crate) use select::{Fold, LOAD_STREAM, PAGE, READ_ALL, STREAM, feed_pages, stream_select};

/// A table of our own like the store's: the same columns, the same three indexes, no trigger. And the design with one lock:
/// whoever holds it knows that no lower position is still to come.
pub(crate) const TABLES: &str = "
    CREATE SCHEMA floor;
    CREATE SEQUENCE floor.positions AS bigint;
    CREATE TABLE floor.events (LIKE mire.events INCLUDING ALL);
    CREATE TABLE floor.locked_events (
      position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      stream text NOT NULL,
      version bigint NOT NULL,
      event_id uuid NOT NULL,
      recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      type text NOT NULL,
      data jsonb NOT NULL,
      UNIQUE (stream, version)
    );
    CREATE FUNCTION floor.append_locked(stream text, type text, data jsonb, event_id uuid)
    RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE
      next_version bigint;
    BEGIN
      PERFORM pg_advisory_xact_lock(4711);
      SELECT coalesce(max(e.version), 0) + 1 INTO next_version
        FROM floor.locked_events AS e WHERE e.stream = append_locked.stream;
      INSERT INTO floor.locked_events (stream, version, event_id, type, data)
      VALUES (append_locked.stream, next_version, append_locked.event_id, append_locked.type, append_locked.data);
      RETURN next_version;
    END
    $$;
";
