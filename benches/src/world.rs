//! [`World`]: the cluster, its databases, and what sides need.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use mire_cluster::{Cluster, DATABASE};
use tokio_postgres::{Client, NoTls};

use crate::stores::{Mire, Store};
use crate::{counters, floors, machine, message_db};

/// What differs from PostgreSQL's defaults. Everything that bears on durability is as it comes: on.
const SETTINGS: [(&str, &str); 6] = [
    // A task of a floor has a connection of its own.
    ("max_connections", "400"),
    // A checkpoint or a vacuum in the middle of one side would be charged to it alone.
    ("checkpoint_timeout", "1h"),
    ("max_wal_size", "16GB"),
    ("autovacuum", "off"),
    ("log_checkpoints", "off"),
    // Nothing here is work for several processes, and a worker's start counts as a commit.
    ("max_parallel_workers_per_gather", "0"),
];

/// How much data the rows about much data have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Events that projections catch up on.
    pub(crate) feed: usize,
    /// Events that the store grows to.
    pub(crate) growth: usize,
}

/// Starts the cluster, with the module that counts statements if there is one. Not within the runtime: it blocks.
pub(crate) fn cluster() -> Result<Cluster> {
    // A quarter of the memory, as PostgreSQL's documentation advises.
    let buffers = (machine::memory_mib() / 4).max(256);
    let mut builder = Cluster::builder().setting("shared_buffers", format!("{buffers}MB"));
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    let counting = builder
        .clone()
        .setting("shared_preload_libraries", "pg_stat_statements")
        .setting("compute_query_id", "off")
        .setting("pg_stat_statements.track", "none");
    counting
        .start()
        .or_else(|_| builder.start())
        .context("cannot start a cluster")
}

/// Everything that sides need.
pub(crate) struct World {
    cluster: Cluster,
    /// In a database of its own: what it does is not counted.
    pub(crate) observer: Client,
    pub(crate) sizes: Sizes,
    counts_calls: bool,
    numbers: AtomicI64,
    made: Mutex<HashSet<String>>,
    build: Build,
}

impl World {
    /// Makes the databases and their empty tables.
    pub(crate) async fn create(
        cluster: Cluster,
        sizes: Sizes,
        message_db: Option<&Path>,
    ) -> Result<Arc<Self>> {
        let observer = connect(&cluster.url("postgres")).await?;
        let build = Build::installed(&observer).await?;
        let counts_calls = observer
            .batch_execute("CREATE EXTENSION pg_stat_statements; SELECT * FROM pg_stat_statements")
            .await
            .is_ok();
        let world = Arc::new(Self {
            cluster,
            observer,
            sizes,
            counts_calls,
            numbers: AtomicI64::new(1),
            made: Mutex::default(),
            build,
        });
        world
            .connect()
            .await?
            .batch_execute(floors::TABLES)
            .await
            .context("cannot make the floor's tables")?;
        world.create_peer(Mire::DATABASE).await?;
        if let Some(folder) = message_db {
            message_db::install(&world, folder)
                .await
                .context("cannot install message-db")?;
        }
        Ok(world)
    }

    /// A database with the extension.
    pub(crate) async fn create_ours(&self, name: &str) -> Result<()> {
        self.create_database(name).await?;
        let client = self.connect_to(name).await?;
        Ok(client.batch_execute("CREATE EXTENSION pg_mire").await?)
    }

    /// A database with the tables of mire and mire-sagas.
    pub(crate) async fn create_peer(&self, name: &str) -> Result<()> {
        self.create_database(name).await?;
        let store = Mire::at(&self.url(name)).await?.0;
        store.migrate().await.context("mire")?;
        mire_sagas::migrate(&store).await.context("mire-sagas")
    }

    pub(crate) async fn create_database(&self, name: &str) -> Result<()> {
        let create = format!("CREATE DATABASE {name}");
        Ok(self.observer.batch_execute(&create).await?)
    }

    pub(crate) async fn drop_database(&self, name: &str) -> Result<()> {
        let drop = format!("DROP DATABASE {name} WITH (FORCE)");
        Ok(self.observer.batch_execute(&drop).await?)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// A connection to the store's database.
    pub(crate) async fn connect(&self) -> Result<Client> {
        self.connect_to(DATABASE).await
    }

    pub(crate) async fn connect_to(&self, database: &str) -> Result<Client> {
        connect(&self.url(database)).await
    }

    /// Makes something that sides share, unless that was done. Sides run one after the other.
    pub(crate) async fn once(
        &self,
        name: &str,
        make: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let made = || self.made.lock().expect("nobody panics in there");
        if !made().contains(name) {
            make.await.with_context(|| format!("making {name}"))?;
            made().insert(name.to_owned());
        }
        Ok(())
    }

    /// A number that no stream has had yet.
    pub(crate) fn fresh_number(&self) -> i64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// An id that no aggregate has had yet.
    pub(crate) fn fresh_id(&self) -> String {
        format!("fresh{}", self.fresh_number())
    }

    /// A stream that does not exist yet.
    pub(crate) fn fresh_stream(&self) -> String {
        format!("ledger-{}", self.fresh_id())
    }

    /// Statistics for the planner: nothing else looks after them here.
    pub(crate) async fn analyze(&self) -> Result<()> {
        let databases = "
            SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> current_database()";
        for row in self.observer.query(databases, &[]).await? {
            let client = self.connect_to(row.get(0)).await?;
            client.batch_execute("ANALYZE").await?;
        }
        Ok(())
    }

    pub(crate) async fn count_calls(&self, on: bool) -> Result<()> {
        if self.counts_calls {
            counters::count_calls(&self.observer, on).await?;
        }
        Ok(())
    }

    pub(crate) async fn forget_calls(&self) -> Result<()> {
        if self.counts_calls {
            counters::forget_calls(&self.observer).await?;
        }
        Ok(())
    }

    /// None where statements cannot be counted.
    pub(crate) async fn calls(&self) -> Result<Option<i64>> {
        if !self.counts_calls {
            return Ok(None);
        }
        counters::calls(&self.observer).await.map(Some)
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

    fn at(library: &Path) -> Result<Self> {
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
                "SELECT count(*) FROM pg_stat_activity WHERE datname <> current_database()",
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
