//! Appending, natively: `append_events`, `append_batch` and what other SQL functions share with them.
//!
//! | module | what it does |
//! |---|---|
//! | [`entry`] | the SQL functions |
//! | [`batch`] | many appends in one call |
//! | [`decide`] | what becomes of an append, given its stream |
//! | [`args`], [`checks`], [`raise`] | arguments, what is wrong with them, and the error that says so |
//! | [`heads`] | streams' rows: found, locked, updated, made |
//! | [`log`] | events' rows: positions drawn, inserted |
//! | [`target`] | a table of ours with all its indexes, to insert into |
//!
//! Locks are taken in one order: streams' rows, then the in-flight lock, then positions.

mod args;
mod batch;
mod checks;
mod decide;
mod entry;
mod heads;
mod log;
mod raise;
mod target;
