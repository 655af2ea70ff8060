//! For tests: [`given`] / when / then without a database, and throwaway clusters for tests with one.

mod database;
mod scenario;

pub use database::{TestDatabase, database};
pub use mire_cluster::{Cluster, Database, PgBouncer, PoolMode, shared};
pub use scenario::{Given, Outcome, given};
