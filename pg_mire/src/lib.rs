//! The native half of pg_mire: what SQL cannot do. Everything else is in `sql/`.
//!
//! | module | what it does |
//! |---|---|
//! | [`append`] | appends events: the stream's row, the events, their indexes |
//! | [`settings`] | the settings `mire.*`, and those of Postgres that an append tightens for its transaction |
//! | [`catalog`] | finds our own relations |
//! | [`positions`] | reads the position sequence without a privilege or a snapshot |
//! | [`in_flight`] | in-flight positions as heavyweight locks: the ground the feed stands on |
//! | [`durability`] | keeps a transaction from being acknowledged before it is durable |
//! | [`wait`] | `CALL mire.wait_for_events(…)`, `CALL mire.wait_for_checkpoint(…)`: sleep without a snapshot |
//! | [`being_inserted`] | whether somebody is just inserting a name, without waiting for them |
//! | [`index`] | looks for rows through an index, for one also as of this very moment |
//! | [`load`] | a stream's snapshot and events, as rows or packed |
//! | [`answer`] | rows for the caller, and the same packed into one value |
//! | [`page`] | pages of the feed: filtered, named and counted on their way from the executor to the caller |
//! | [`saga`] | starts instances of sagas, and commits what was decided about them |
//! | [`item_fault`] | what is wrong with an item of a call about sagas |
//! | [`execute_all`] | executes a driver's statements many times in one call |
//! | [`erase`] | the one way past the append-only triggers |
//! | [`drop_guard`] | refuses to drop a log by accident |
//! | [`ids`] | time-ordered event ids |
//! | [`raw`] | functions of Postgres without a guard around each call |
//!
//! Unsafe code is confined to the modules that say so at their top.

mod answer;
mod append;
mod being_inserted;
mod catalog;
mod drop_guard;
mod durability;
mod erase;
mod execute_all;
mod ids;
mod in_flight;
mod index;
mod item_fault;
mod load;
mod page;
mod positions;
mod raw;
mod saga;
mod settings;
mod wait;

use pgrx::prelude::*;

pgrx::pg_module_magic!(name, version);

#[pg_guard]
extern "C-unwind" fn _PG_init() {
    settings::define();
    durability::install();
    drop_guard::install();
}
