//! What the tests of pg_mire share. The tests themselves are in `tests/tests/promises`, one topic a file.

#![allow(clippy::unwrap_used)] // what fails here fails the test

pub mod access;
pub mod batch;
pub mod feed;
pub mod golden;
pub mod hostile;
pub mod load;
pub mod plans;
pub mod proxy;
pub mod psql;
pub mod saga;
pub mod session;
pub mod stall;
pub mod standby;
pub mod subscription;
pub mod waiter;
