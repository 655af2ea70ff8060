//! Throwaway PostgreSQL clusters: real servers that exist for one test, example or experiment.
//!
//! ```no_run
//! let cluster = mire_cluster::Cluster::start()?;
//! println!("{}", cluster.url("mire"));
//! # Ok::<(), mire_cluster::Error>(())
//! ```
//!
//! A cluster has a folder of its own, listens on a free port of 127.0.0.1 and on a unix socket,
//! trusts everybody who reaches it, and is gone when its [`Cluster`] is dropped or the process that
//! started it ends in whatever way. Linux only: it looks into `/proc` to know what is still alive.

mod access;
mod builder;
mod cluster;
mod control;
mod error;
mod log;
mod pgbouncer;
mod port;
mod server;
mod shared;
mod toolchain;
mod user;
mod watchdog;

pub use builder::Builder;
pub use cluster::Cluster;
pub use error::{Error, Result};
pub use log::check_log_file;
pub use pgbouncer::{PgBouncer, PoolMode};
pub use server::Server;
pub use shared::{Database, SHARED_CLUSTER, shared};
pub use toolchain::Toolchain;
pub use user::ServerUser;

/// The role that owns a throwaway cluster, a superuser.
pub const SUPERUSER: &str = "postgres";

/// The database every cluster starts with, the extension already in it.
pub const DATABASE: &str = "mire";
