//! Waiting inside the server, without a snapshot, so that vacuum is not held back however long it takes.
//!
//! A procedure outside of a transaction block may commit: that ends its caller's snapshot. From then on it sleeps on the
//! backend's latch and looks every few milliseconds; a query takes a snapshot of its own and drops it again. Nobody
//! notifies anybody, and cancel, terminate and a dying postmaster end the sleep at once.

mod checkpoint;
mod events;
mod procedure;
mod sleep;

pub(crate) use procedure::declare;
