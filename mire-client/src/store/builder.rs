//! [`EventStoreBuilder`]: all the choices, none of them necessary but where the database is.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::QueueMode;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::EventStore;
use crate::batch::{Batcher, SharedCommits};
use crate::connection::{
    CONNECT_TIMEOUT, Connector, Hosts, ParsedUrl, Statements, connect_patience, tls_connector,
};
use crate::error::{Error, ErrorKind, Result};

/// Builds an [`EventStore`]. Nothing is connected until the store is used.
///
/// ```
/// use mire_client::{EventStore, Statements};
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # let _guard = runtime.enter();
/// let store = EventStore::builder()
///     .url("postgresql://app@localhost/orders")
///     .pool_size(8)
///     .statements(Statements::Unnamed)
///     .build()?;
/// # Ok::<(), mire_client::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct EventStoreBuilder {
    url: Option<String>,
    pool: Option<Pool>,
    pool_size: usize,
    pool_wait: Duration,
    statements: Statements,
    shared_commits: Option<SharedCommits>,
}

impl std::fmt::Debug for EventStoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStoreBuilder")
            // It may hold a password.
            .field("url", &self.url.as_ref().map(|_| "…"))
            .field("pool", &self.pool.as_ref().map(Pool::status))
            .field("pool_size", &self.pool_size)
            .field("pool_wait", &self.pool_wait)
            .field("statements", &self.statements)
            .field("shared_commits", &self.shared_commits)
            .finish()
    }
}

impl Default for EventStoreBuilder {
    fn default() -> Self {
        Self {
            url: None,
            pool: None,
            pool_size: 16,
            pool_wait: Duration::from_secs(30),
            statements: Statements::Detect,
            shared_commits: Some(SharedCommits::new()),
        }
    }
}

impl EventStoreBuilder {
    /// Where the database is: `postgresql://…` or `key=value …`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Uses this pool instead of making one.
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// How many connections the pool has at most: 16 if not said. Shared commits and leases have their own besides.
    pub fn pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// How long a call waits for a connection of the pool: 30 s if not said.
    pub fn pool_wait(mut self, wait: Duration) -> Self {
        self.pool_wait = wait;
        self
    }

    /// How statements are sent; found out at the first connection if not said.
    pub fn statements(mut self, statements: Statements) -> Self {
        self.statements = statements;
        self
    }

    /// How concurrent saves and appends share commits.
    pub fn shared_commits(mut self, shared_commits: SharedCommits) -> Self {
        self.shared_commits = Some(shared_commits);
        self
    }

    /// Every save and append is a commit of its own, on a connection of the pool.
    pub fn without_shared_commits(mut self) -> Self {
        self.shared_commits = None;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a bad URL, a pool of size 0, or neither a URL nor a pool.
    pub fn build(self) -> Result<EventStore> {
        if let Some(shared_commits) = &self.shared_commits {
            shared_commits.check()?;
        }
        match (&self.pool, &self.url) {
            (Some(pool), None) => Ok(assemble(pool.clone(), &self)),
            (None, Some(url)) => self.connect_by(url),
            (Some(_), Some(_)) => Err(config("give a URL or a pool, not both")),
            (None, None) => Err(config("say where the database is: give a URL or a pool")),
        }
    }

    fn connect_by(&self, url: &str) -> Result<EventStore> {
        if self.pool_size == 0 {
            return Err(config("a pool needs at least one connection"));
        }
        let parsed = ParsedUrl::parse(url)?;
        let tls = tls_connector(&parsed.verify)?;
        let patience = connect_patience(&parsed.postgres);
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let hosts = Hosts { tls: tls.clone() };
        let pool = Pool::builder(Manager::from_connect(parsed.postgres, hosts, recycling))
            .max_size(self.pool_size)
            // The session that was used last has at hand what is called just now: catalogs, plans, pages of its caches. Where
            // few are at work at a time, they are the same few.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(self.pool_wait))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| {
                Error::with_source(
                    ErrorKind::Config {
                        reason: e.to_string(),
                    },
                    e,
                )
            })?;
        Ok(assemble_with(pool, self, patience, Some(tls)))
    }
}

/// On a pool of the program's own.
pub(super) fn assemble(pool: Pool, builder: &EventStoreBuilder) -> EventStore {
    assemble_with(pool, builder, CONNECT_TIMEOUT, None)
}

fn assemble_with(
    pool: Pool,
    builder: &EventStoreBuilder,
    connect_timeout: Duration,
    tls: Option<MakeRustlsConnect>,
) -> EventStore {
    let connector = Connector::new(pool, builder.statements, connect_timeout, tls);
    let connector = Arc::new(connector);
    let batcher = builder
        .shared_commits
        .clone()
        .map(|settings| Arc::new(Batcher::new(connector.clone(), settings)));
    EventStore {
        connector,
        batcher,
        listeners: Arc::default(),
    }
}

fn config(reason: &str) -> Error {
    Error::new(ErrorKind::Config {
        reason: reason.into(),
    })
}
