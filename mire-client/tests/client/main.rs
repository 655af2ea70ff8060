//! The client against real servers. One program, one file for each thing it promises.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod aggregates;
mod append;
mod busy_streams;
mod catch_up;
mod chaos;
mod common;
mod connection_loss;
mod examples;
mod fleet;
mod in_turn;
mod latency;
mod leases;
mod log;
mod metrics;
mod numbers;
mod poison;
mod pooler;
mod projections;
mod proxy;
mod read_models;
mod reading;
mod rebuilds;
mod setup;
mod shared_commits;
mod snapshots;
mod spans;
mod tenures;
mod tls;
mod torture;
mod transactions;
mod upcasting;
