//! Runners and workers against real servers. One program, one file for each thing they promise.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod common;
mod crashes;
mod delivering;
mod figures;
mod left_over;
mod outbox;
mod poison;
mod running;
mod starting;
mod timing;
mod versions;
