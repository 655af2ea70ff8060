//! Starting instances of sagas and committing what was decided about them, natively: `saga_start`, `saga_commit`.
//!
//! | module | what it does |
//! |---|---|
//! | [`entry`] | the SQL functions |
//! | [`start`], [`commit`] | what becomes of an item, and the writing of it |
//! | [`change`] | an item, taken apart |
//! | [`json`] | JSON as Postgres stores it |
//! | [`instances`] | the instances' rows: found, locked, updated, made |
//! | [`messages`] | the outbox: sent, settled |
//!
//! Locks are taken in one order: an instance's row, its stream's row, messages, then the in-flight lock.

mod change;
mod commit;
mod entry;
mod instances;
mod json;
mod messages;
mod start;
