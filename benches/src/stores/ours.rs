//! pg_mire through its typed client.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mire_client::{
    Batch, BatchHandler, BoxError, Command, EventStore, ExpectedVersion, Handler, Incoming, Plain,
    ProjectionRunner, Repository, Subscription, Transaction, Transactional, TransactionalHandler,
    stream_name,
};
use tokio_postgres::types::{ToSql, Type};

use super::{Manner, Seen, Store};
use crate::entry::{Content, Entry, Ledger};
use crate::world::World;

/// The pool's default size: reads take their connections from there.
const POOL: usize = 16;
const WARM_UP: usize = 3;

/// An `EventStore` with its default settings.
#[derive(Clone)]
pub(crate) struct Ours(pub(crate) EventStore, Repository<Ledger>);

impl Ours {
    pub(crate) fn new(store: EventStore) -> Self {
        let ledgers = store.repository().retry_conflicts(u32::MAX).in_turn();
        Self(store, ledgers)
    }
}

/// The command that always succeeds.
struct Increment;

impl Command for Increment {
    type Aggregate = Ledger;
    type Rejection = Infallible;

    fn decide(&self, _: &Ledger) -> Result<Vec<Entry>, Infallible> {
        Ok(vec![Content::Small.entry()])
    }
}

impl Store for Ours {
    const DATABASE: &'static str = mire_cluster::DATABASE;
    const FEED: &'static str = "feed";
    type Running = ProjectionRunner;

    async fn create(world: &World, database: &str) -> Result<()> {
        world.create_ours(database).await
    }

    async fn connect(world: &World, database: &str) -> Result<Self> {
        Ok(Self::new(EventStore::connect(&world.url(database)).await?))
    }

    async fn open(world: &World, database: &str) -> Result<Self> {
        let store = Self::connect(world, database).await?;
        // All of the pool's connections: they would else be opened while the clock runs. They take turns afterwards.
        let mut all = Vec::with_capacity(POOL);
        for _ in 0..POOL {
            let client = store.0.pool().get().await;
            all.push(client.context("the pool is too small")?);
        }
        drop(all);
        // One after the other, so that the number of commits is always the same and can be taken off.
        for _ in 0..POOL * WARM_UP {
            store.add(&world.fresh_id()).await?;
        }
        Ok(store)
    }

    async fn add(&self, id: &str) -> Result<Option<i64>> {
        let mut ledger = self.0.load_or_default::<Ledger>(id).await?;
        let before = ledger.state().total;
        ledger.record(Content::Small.entry());
        match self.0.save(&mut ledger).await {
            Ok(_) => Ok(Some(before)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn add_contended(&self, id: &str) -> Result<()> {
        self.1.send(id, &Increment).await?;
        Ok(())
    }

    async fn append(&self, id: &str, content: Content, entries: usize) -> Result<i64> {
        let mut events = Vec::with_capacity(entries);
        for _ in 0..entries {
            events.push(content.new_event()?);
        }
        let recorded = self
            .0
            .append(stream_name::<Ledger>(id), ExpectedVersion::Any, events)
            .await?;
        Ok(recorded.version)
    }

    async fn total(&self, id: &str) -> Result<i64> {
        Ok(self.0.load::<Ledger>(id).await?.state().total)
    }

    async fn total_snapshotted(&self, id: &str) -> Result<i64> {
        Ok(self.0.load_snapshotted::<Ledger>(id).await?.state().total)
    }

    async fn fill_snapshotted(&self, id: &str, entries: usize) -> Result<()> {
        const EACH: usize = 100;
        let mut ledger = self.0.load_or_default::<Ledger>(id).await?;
        for _ in 0..entries / EACH {
            for _ in 0..EACH {
                ledger.record(Content::Small.entry());
            }
            self.0.save_snapshotted(&mut ledger).await?;
        }
        Ok(())
    }

    async fn project(
        &self,
        subscriptions: Vec<String>,
        manner: Manner,
        seen: Arc<Seen>,
    ) -> Result<ProjectionRunner> {
        ensure!(!subscriptions.is_empty(), "nothing to project");
        let mut runner = ProjectionRunner::builder(self.0.clone());
        for name in subscriptions {
            let subscription = Subscription::new(name).aggregate::<Ledger>();
            let handler = Project(Arc::clone(&seen));
            runner = match manner {
                Manner::Plain => runner.subscribe(subscription, Plain(handler)),
                Manner::Transactional => runner.subscribe(subscription, Transactional(handler)),
                Manner::Batch => runner.subscribe(subscription, Batch(handler)),
                Manner::Sum => runner.subscribe(subscription, Batch(Sum(seen.clone()))),
            };
        }
        Ok(runner.spawn().await?)
    }

    async fn stop(running: ProjectionRunner) -> Result<()> {
        Ok(running.shutdown().await?)
    }
}

struct Project(Arc<Seen>);

impl Handler for Project {
    type Event = Entry;

    async fn handle(&self, event: &Incoming<'_, Entry>) -> Result<(), BoxError> {
        self.0.add(event.event.by());
        Ok(())
    }
}

impl TransactionalHandler for Project {
    type Event = Entry;

    async fn handle(
        &self,
        event: &Incoming<'_, Entry>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let by = event.event.by();
        tx.queue(Manner::ONE, &[&event.id(), &by]).await?;
        self.0.add(by);
        Ok(())
    }
}

impl BatchHandler for Project {
    type Event = Entry;

    async fn handle(
        &self,
        events: &[Incoming<'_, Entry>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let ids: Vec<&str> = events.iter().map(Incoming::id).collect();
        let by: Vec<i64> = events.iter().map(|event| event.event.by()).collect();
        let rows: [(&(dyn ToSql + Sync), Type); 2] =
            [(&ids, Type::TEXT_ARRAY), (&by, Type::INT8_ARRAY)];
        tx.sql().execute_typed(Manner::MANY, &rows).await?;
        self.0.add(by.iter().sum());
        Ok(())
    }
}

struct Sum(Arc<Seen>);

impl BatchHandler for Sum {
    type Event = Entry;

    async fn handle(
        &self,
        events: &[Incoming<'_, Entry>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let sum: i64 = events.iter().map(|event| event.event.by()).sum();
        let row: [(&(dyn ToSql + Sync), Type); 2] = [(&"sum", Type::TEXT), (&sum, Type::INT8)];
        tx.sql().execute_typed(Manner::ONE, &row).await?;
        self.0.add(sum);
        Ok(())
    }
}
