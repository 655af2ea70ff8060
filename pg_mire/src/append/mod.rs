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
//! | [`room`] | which page an event goes to |
//! | [`outgrown`] | plans that were made while a table was small |
//! | [`target`] | a table of ours with all its indexes, to insert into |
//!
//! Locks are taken in one order: streams' rows, then the in-flight lock, then positions.

pub(crate) mod args;
mod batch;
mod checks;
mod decide;
mod entry;
pub(crate) mod heads;
pub(crate) mod log;
mod outgrown;
pub(crate) mod raise;
mod room;
pub(crate) mod target;

/// What is wrong with the name of a stream, an event type or a resource.
pub(crate) fn name_fault(name: &str) -> Option<impl std::fmt::Display> {
    checks::name_fault(Some(name.as_bytes()))
}
