//! mire 0.4.0: the nearest relative, sqlx on plain tables.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mire::{
    Aggregate, Event, EventData, EventHandler, EventStore, EventStoreError, ExpectedVersion,
    HandledEvent, ProjectionRunner, Snapshot, TransactionalBatchEventHandler,
    TransactionalEventHandler,
};
use mire_client::Json;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Manner, Seen, Store};
use crate::entry::{ACCOUNT, CATEGORY, Content, MEMO};
use crate::side::together;
use crate::world::World;

/// As in its own benchmark.
const POOL: u32 = 64;
/// As many as our pages hold.
const PAGE: i64 = 1_000;
const WARM_UP: usize = 3;

/// An `EventStore` as its own benchmark sets it up.
#[derive(Clone)]
pub(crate) struct Mire(pub(crate) EventStore);

/// An entry as its clients would write it.
#[derive(Debug, Clone, Serialize, Deserialize, EventData)]
#[serde(tag = "type")]
#[mire(entity = "ledger")]
pub(crate) enum Entry {
    Incremented {
        by: i64,
    },
    Booked {
        by: i64,
        account: String,
        memo: String,
    },
}

impl Entry {
    pub(crate) fn new(content: Content) -> Self {
        match content {
            Content::Small => Self::Incremented { by: 1 },
            Content::Booking => Self::Booked {
                by: 1,
                account: ACCOUNT.into(),
                memo: MEMO.into(),
            },
        }
    }

    fn by(&self) -> i64 {
        match self {
            Self::Incremented { by } | Self::Booked { by, .. } => *by,
        }
    }
}

/// Type and JSON of an entry, as it stores them.
pub(crate) fn mire_entry(content: Content) -> Result<(String, Json)> {
    let entry = Entry::new(content);
    Ok((entry.event_type().to_owned(), Json::new(&entry)?))
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    total: i64,
}

impl Aggregate for Ledger {
    type Event = Entry;

    fn stream_category() -> &'static str {
        CATEGORY
    }

    fn apply(&mut self, event: &Entry) {
        self.total += event.by();
    }
}

impl Snapshot for Ledger {
    const SNAPSHOT_VERSION: i32 = 1;
    const SNAPSHOT_FREQUENCY: i64 = 100;
}

/// A runner in the background.
pub(crate) struct Running {
    task: JoinHandle<Result<()>>,
    stop: DropGuard,
}

impl Mire {
    /// A pool and a store, and nothing asked of it yet.
    pub(crate) async fn at(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(POOL).connect(url);
        Ok(Self(EventStore::new(pool.await?)))
    }
}

impl Store for Mire {
    const DATABASE: &'static str = "mire_peer";
    const FEED: &'static str = "mire_peer_feed";
    type Running = Running;

    async fn create(world: &World, database: &str) -> Result<()> {
        world.create_peer(database).await
    }

    async fn connect(world: &World, database: &str) -> Result<Self> {
        Self::at(&world.url(database)).await
    }

    async fn open(world: &World, database: &str) -> Result<Self> {
        let store = Self::connect(world, database).await?;
        let mut all = Vec::new();
        for _ in 0..POOL {
            all.push(store.0.pool().acquire().await?);
        }
        drop(all);
        // At the same time, so that each connection has its turn: nothing is shared here.
        together((0..POOL).map(|_| {
            let (store, id) = (store.clone(), world.fresh_id());
            async move {
                for _ in 0..WARM_UP {
                    store.add(&id).await?;
                }
                Ok(())
            }
        }))
        .await?;
        Ok(store)
    }

    async fn add(&self, id: &str) -> Result<Option<i64>> {
        let mut ledger = self.0.load_or_default::<Ledger>(id).await?;
        let before = ledger.state.total;
        ledger.record(Entry::new(Content::Small));
        match self.0.save(&mut ledger).await {
            Ok(()) => Ok(Some(before)),
            Err(EventStoreError::ConcurrencyConflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn add_contended(&self, id: &str) -> Result<()> {
        while self.add(id).await?.is_none() {}
        Ok(())
    }

    async fn append(&self, id: &str, content: Content, entries: usize) -> Result<i64> {
        let events: Vec<_> = (0..entries)
            .map(|_| Event::new(Entry::new(content)))
            .collect();
        let stream = format!("{CATEGORY}-{id}");
        let appended = self
            .0
            .append(&stream, CATEGORY, ExpectedVersion::Any, &events);
        Ok(appended.await?)
    }

    async fn total(&self, id: &str) -> Result<i64> {
        let ledger = self.0.load::<Ledger>(id).await?;
        Ok(ledger.context("there is no such ledger")?.state.total)
    }

    async fn total_snapshotted(&self, id: &str) -> Result<i64> {
        let ledger = self.0.load_snapshotted::<Ledger>(id).await?;
        Ok(ledger.context("there is no such ledger")?.state.total)
    }

    async fn fill_snapshotted(&self, id: &str, entries: usize) -> Result<()> {
        const EACH: usize = 100;
        let mut ledger = self.0.load_or_default::<Ledger>(id).await?;
        for _ in 0..entries / EACH {
            ledger.record_many((0..EACH).map(|_| Entry::new(Content::Small)));
            self.0.save_snapshotting(&mut ledger).await?;
        }
        Ok(())
    }

    async fn project(
        &self,
        subscriptions: Vec<String>,
        manner: Manner,
        seen: Arc<Seen>,
    ) -> Result<Running> {
        ensure!(!subscriptions.is_empty(), "nothing to project");
        let mut runner = ProjectionRunner::builder(self.0.clone());
        if matches!(manner, Manner::Batch | Manner::Sum) {
            runner = runner.batch_size(PAGE);
        }
        for name in subscriptions {
            let handler = Project(Arc::clone(&seen), manner);
            runner = match manner {
                Manner::Plain => runner.subscribe(name, handler),
                Manner::Transactional => runner.subscribe_transactional(name, handler),
                Manner::Batch | Manner::Sum => runner.subscribe_transactional_batch(name, handler),
            };
        }
        let stop = CancellationToken::new();
        Ok(Running {
            task: tokio::spawn(runner.build().run(stop.clone())),
            stop: stop.drop_guard(),
        })
    }

    async fn stop(running: Running) -> Result<()> {
        drop(running.stop);
        running.task.await.context("the runner panicked")?
    }
}

struct Project(Arc<Seen>, Manner);

impl EventHandler for Project {
    type Aggregate = Ledger;

    async fn handle(&self, event: HandledEvent<Entry>) -> Result<()> {
        self.0.add(event.event.by());
        Ok(())
    }
}

impl TransactionalEventHandler for Project {
    type Aggregate = Ledger;

    async fn handle(&self, event: HandledEvent<Entry>, conn: &mut PgConnection) -> Result<()> {
        let by = event.event.by();
        let upsert = sqlx::query(Manner::ONE).bind(event.stream_id()).bind(by);
        upsert.execute(conn).await?;
        self.0.add(by);
        Ok(())
    }
}

impl TransactionalBatchEventHandler for Project {
    type Aggregate = Ledger;

    async fn handle_batch(
        &self,
        events: Vec<HandledEvent<Entry>>,
        conn: &mut PgConnection,
    ) -> Result<()> {
        let by: Vec<i64> = events.iter().map(|event| event.event.by()).collect();
        let sum = by.iter().sum();
        let upsert = if self.1 == Manner::Sum {
            sqlx::query(Manner::ONE).bind("sum").bind(sum)
        } else {
            let ids: Vec<String> = events.iter().map(|e| e.stream_id().to_owned()).collect();
            sqlx::query(Manner::MANY).bind(ids).bind(by)
        };
        upsert.execute(conn).await?;
        self.0.add(sum);
        Ok(())
    }
}
