//! [`Store`]: what both event stores can do, so that each workload is written once and runs on either.

mod mire;
mod ours;
mod seen;

use std::future::Future;
use std::sync::Arc;

use anyhow::Result;

pub(crate) use self::mire::{Mire, mire_entry};
pub(crate) use ours::Ours;
pub(crate) use seen::Seen;

use crate::entry::Content;
use crate::world::World;

/// How a projection wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// One after the other, in memory.
    Plain,
    /// One after the other, each an upsert in the transaction that moves the checkpoint.
    Transactional,
    /// Pages, each an upsert of its rows in the transaction that moves the checkpoint.
    Batch,
    /// Pages, each an upsert of one sum in the transaction that moves the checkpoint.
    Sum,
}

impl Manner {
    /// The read model that it writes.
    pub(crate) const TABLE: &'static str =
        "CREATE TABLE read_model (id text PRIMARY KEY, total bigint NOT NULL)";
    const ONE: &'static str = "
        INSERT INTO read_model AS r VALUES ($1, $2)
        ON CONFLICT (id) DO UPDATE SET total = r.total + excluded.total";
    const MANY: &'static str = "
        INSERT INTO read_model AS r
        SELECT e.id, sum(e.by)::bigint FROM unnest($1::text[], $2::bigint[]) AS e (id, by) GROUP BY e.id
        ON CONFLICT (id) DO UPDATE SET total = r.total + excluded.total";
}

/// An event store with aggregates and projections.
pub(crate) trait Store: Clone + Send + Sync + 'static {
    /// Where its tables are.
    const DATABASE: &'static str;
    /// Where the log is that projections catch up on.
    const FEED: &'static str;
    /// A projection that runs. It ends when this is dropped.
    type Running: Send;

    /// Makes a database with its empty tables.
    fn create(world: &World, database: &str) -> impl Future<Output = Result<()>> + Send;

    /// As its documentation advises.
    fn connect(world: &World, database: &str) -> impl Future<Output = Result<Self>> + Send;

    /// The same with connections opened and statements prepared.
    fn open(world: &World, database: &str) -> impl Future<Output = Result<Self>> + Send;

    /// Loads a ledger, records an entry, saves. None when somebody else was faster, else how many there were before.
    fn add(&self, id: &str) -> impl Future<Output = Result<Option<i64>>> + Send;

    /// The same until it works, as its documentation advises for contended streams.
    fn add_contended(&self, id: &str) -> impl Future<Output = Result<()>> + Send;

    /// Appends so many entries to a ledger at any version.
    fn append(
        &self,
        id: &str,
        content: Content,
        entries: usize,
    ) -> impl Future<Output = Result<i64>> + Send;

    /// Loads a ledger and tells its total.
    fn total(&self, id: &str) -> impl Future<Output = Result<i64>> + Send;

    /// The same through a snapshot.
    fn total_snapshotted(&self, id: &str) -> impl Future<Output = Result<i64>> + Send;

    /// Saves so many entries, a hundred at a time, each time with a snapshot.
    fn fill_snapshotted(&self, id: &str, entries: usize)
    -> impl Future<Output = Result<()>> + Send;

    /// Starts a projection of the ledgers for each of these subscriptions, one process.
    fn project(
        &self,
        subscriptions: Vec<String>,
        manner: Manner,
        seen: Arc<Seen>,
    ) -> impl Future<Output = Result<Self::Running>> + Send;

    fn stop(running: Self::Running) -> impl Future<Output = Result<()>> + Send;
}
