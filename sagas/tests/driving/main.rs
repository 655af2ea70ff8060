//! Runners and workers against real servers. One program, one file for each thing they promise.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod common;
mod crashes;
mod delivering;
mod figures;
mod forked;
mod left_over;
#[path = "../../../mire-client/tests/client/log.rs"]
mod log;
mod measured;
mod migrating;
#[path = "../../../mire-client/tests/client/numbers.rs"]
mod numbers;
mod outbox;
mod poison;
mod running;
mod starting;
mod timing;
mod versions;
