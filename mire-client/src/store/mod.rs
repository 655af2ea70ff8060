//! [`EventStore`]: the way in. One file for each thing it does.

mod admin;
mod append;
mod builder;
mod expected;
mod feed;
mod hydrate;
mod listeners;
mod load;
mod migrate;
mod read;
mod snapshots;

use std::sync::Arc;

pub use append::Recorded;
pub use builder::EventStoreBuilder;
pub use expected::ExpectedVersion;
pub use feed::{FeedEvent, FeedPage, ReadAll, SafePosition};
pub use migrate::StoreInfo;
pub use read::ReadStream;

pub(crate) use append::{AppendRequest, append_directly};
pub(crate) use feed::for_each_row;
pub(crate) use listeners::{Listener, Listeners};
pub(crate) use load::load_on;

use crate::batch::Batcher;
use crate::connection::Connector;
use crate::error::Result;

/// An event store in a PostgreSQL database: cheap to clone, meant to be shared by the whole program.
///
/// ```no_run
/// # use mire_client::{EventStore, ReadAll};
/// # async fn f() -> mire_client::Result<()> {
/// let store = EventStore::connect("postgresql://app@db1,db2/orders?target_session_attrs=read-write").await?;
/// store.migrate().await?;
/// # Ok(()) }
/// ```
///
/// # Dropped futures
///
/// Every method may be dropped half-way. A read leaves nothing behind: its connection is closed and the server told to
/// stop. A write may or may not happen: if it waits for a shared commit it is withdrawn, if it has left it is carried out.
/// Writing the same events again at the same expected version of 0 or more is safe either way, which is what calling
/// [`save`](Self::save) again does, also when more has been recorded since.
///
/// # Runtimes
///
/// Connections, and the task that shares commits, live in the Tokio runtime of whoever needed them first. When that
/// runtime has ended others take its place; while it exists it must run: a `current_thread` runtime between two `block_on`s
/// lets everybody else's appends wait.
#[derive(Clone)]
pub struct EventStore {
    pub(crate) connector: Arc<Connector>,
    pub(crate) batcher: Option<Arc<Batcher>>,
    pub(crate) listeners: Arc<Listeners>,
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore")
            .field("shared_commits", &self.batcher.is_some())
            .finish_non_exhaustive()
    }
}

impl EventStore {
    /// Connects by URL (`postgresql://…` or `key=value …`). Several hosts are tried in order;
    /// `target_session_attrs=read-write` finds the primary among them. `sslmode` means what it means to libpq.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a bad URL, [`ErrorKind::Connection`](crate::ErrorKind::Connection)
    /// when the database cannot be reached.
    pub async fn connect(url: &str) -> Result<Self> {
        let store = Self::builder().url(url).build()?;
        store.connector.pooled().await?;
        Ok(store)
    }

    /// Uses a pool that the program has already, with default settings.
    #[must_use]
    pub fn from_pool(pool: deadpool_postgres::Pool) -> Self {
        builder::assemble(pool, &EventStoreBuilder::default())
    }

    /// All the choices there are.
    pub fn builder() -> EventStoreBuilder {
        EventStoreBuilder::default()
    }

    /// The pool that reads, transactions and unshared writes take their connections from. Shared commits and leases
    /// have connections of their own.
    #[must_use]
    pub fn pool(&self) -> &deadpool_postgres::Pool {
        self.connector.pool()
    }
}
