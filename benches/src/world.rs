//! [`World`]: the cluster, its floor tables, and what rows share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use mire_client::EventStore;
use mire_cluster::{Cluster, DATABASE};
use tokio_postgres::{Client, NoTls};

use crate::floors;
use crate::rows::Fixtures;

/// What differs from PostgreSQL's defaults. Everything that bears on durability is as it comes: on.
const SETTINGS: [(&str, &str); 7] = [
    // A task of a floor has a connection of its own.
    ("max_connections", "400"),
    ("shared_buffers", "1GB"),
    // A checkpoint or a vacuum in the middle of one side would be charged to it alone.
    ("checkpoint_timeout", "1h"),
    ("max_wal_size", "16GB"),
    ("autovacuum", "off"),
    ("log_checkpoints", "off"),
    // Nothing here is work for several processes, and a worker's start counts as a commit.
    ("max_parallel_workers_per_gather", "0"),
];

/// Starts the cluster. Not within the runtime: it blocks.
pub(crate) fn cluster() -> Result<Cluster> {
    let mut builder = Cluster::builder();
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    builder.start().context("cannot start a cluster")
}

/// Everything that sides need.
pub(crate) struct World {
    cluster: Cluster,
    /// In another database: what it does is not counted.
    pub(crate) observer: Client,
    numbers: AtomicI64,
    pub(crate) fixtures: Fixtures,
    build: Build,
}

impl World {
    /// Makes the floor's tables and the data that loads and catch-ups read.
    pub(crate) async fn create(cluster: Cluster) -> Result<Arc<Self>> {
        let observer = connect(&cluster.url("postgres")).await?;
        let build = Build::installed(&observer).await?;
        let url = cluster.url(DATABASE);
        connect(&url)
            .await?
            .batch_execute(floors::TABLES)
            .await
            .context("cannot make the floor's tables")?;
        eprintln!("mire-benches: making data to read …");
        let fixtures = Fixtures::create(&EventStore::connect(&url).await?).await?;
        let client = connect(&url).await?;
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            client.batch_execute(statement).await?;
        }
        drop(client);
        Ok(Arc::new(Self {
            cluster,
            observer,
            numbers: AtomicI64::new(1),
            fixtures,
            build,
        }))
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A connection to the store's database.
    pub(crate) async fn connect(&self) -> Result<Client> {
        connect(&self.cluster.url(DATABASE)).await
    }

    /// A typed client with its default settings.
    pub(crate) async fn store(&self) -> Result<EventStore> {
        Ok(EventStore::connect(&self.cluster.url(DATABASE)).await?)
    }

    /// A number that no stream has had yet.
    pub(crate) fn fresh_number(&self) -> i64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A stream that does not exist yet.
    pub(crate) fn fresh_stream(&self) -> String {
        format!("fresh-{}", self.fresh_number())
    }

    /// Fails if the extension was installed anew meanwhile: nobody could say what was measured.
    pub(crate) fn assert_same_build(&self) -> Result<()> {
        ensure!(
            Build::at(&self.build.library)? == self.build,
            "the extension was installed anew during the run; these figures mean nothing"
        );
        Ok(())
    }
}

/// Connects; the connection ends with its client.
async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("cannot connect")?;
    tokio::spawn(async move {
        // A side whose connection broke hears of it from its client.
        let _ = connection.await;
    });
    Ok(client)
}

/// Which build of the extension is installed.
#[derive(PartialEq, Eq)]
struct Build {
    library: PathBuf,
    bytes: u64,
    written: SystemTime,
}

impl Build {
    async fn installed(client: &Client) -> Result<Self> {
        let row = client
            .query_one(
                "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'",
                &[],
            )
            .await?;
        Self::at(&PathBuf::from(row.get::<_, String>(0)).join("pg_mire.so"))
    }

    fn at(library: &std::path::Path) -> Result<Self> {
        let meta = library
            .metadata()
            .with_context(|| format!("cannot look at {}", library.display()))?;
        Ok(Self {
            library: library.to_owned(),
            bytes: meta.len(),
            written: meta.modified()?,
        })
    }
}

/// Waits until nobody but the observer is connected: a session's counters are complete when it has ended.
pub(crate) async fn wait_until_alone(observer: &Client) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(20);
    const TICK: Duration = Duration::from_millis(5);
    let started = std::time::Instant::now();
    loop {
        let row = observer
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'mire'",
                &[],
            )
            .await?;
        if row.get::<_, i64>(0) == 0 {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "a side left connections behind"
        );
        tokio::time::sleep(TICK).await;
    }
}
