//! [`Rebuild`]: a new version of a read model is built beside the one that serves, and takes its place in one transaction.

use std::time::Duration;

use tracing::instrument;

use super::runner::{ProjectionRunner, ProjectionRunnerBuilder};
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::store::EventStore;

/// A read model being built anew, under a subscription of its own and into tables of its own, while the old one serves.
///
/// Give each version a name of its own (`balances_2`), and let readers use a view that [`switch`](Self::switch) points to
/// the new tables.
///
/// ```no_run
/// # use mire_client::{Aggregate, Batch, BatchHandler, EventStore, ProjectionRunner, Rebuild, Subscription};
/// # use std::time::Duration;
/// # async fn f<A: Aggregate>(store: EventStore, balances: impl BatchHandler) -> mire_client::Result<()> {
/// let builder = ProjectionRunner::builder(store.clone())
///     .subscribe(Subscription::new("balances_2").aggregate::<A>().partitions(4), Batch(balances));
/// let rebuild = Rebuild::start(store, builder, "balances_1", "balances_2").await?;
/// while rebuild.progress().await?.events_behind > 1_000 {
///     tokio::time::sleep(Duration::from_secs(1)).await;
/// }
/// let runner = rebuild
///     .switch("CREATE OR REPLACE VIEW balances AS SELECT * FROM balances_2", Duration::from_secs(30))
///     .await?;
/// # runner.shutdown().await }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Rebuild {
    store: EventStore,
    runner: ProjectionRunner,
    old: String,
    new: String,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuildProgress {
    /// Everything up to this position is in the new read model.
    pub position: i64,
    /// The old one is here.
    pub old_position: i64,
    /// How many events are still to be handled, over all partitions.
    pub events_behind: i64,
    /// Counting stopped: there may be more.
    pub is_a_minimum: bool,
}

impl Rebuild {
    /// Starts a runner with the new version's subscription, which begins where it says: normally at the first event. The
    /// old version's runner, in this process or another, goes on.
    ///
    /// # Errors
    /// Those of [`ProjectionRunnerBuilder::spawn`]; `42704` when the old subscription does not exist.
    pub async fn start(
        store: EventStore,
        builder: ProjectionRunnerBuilder,
        old: impl Into<String>,
        new: impl Into<String>,
    ) -> Result<Self> {
        let (old, new) = (old.into(), new.into());
        store.subscription_checkpoint(&old, None).await?;
        let runner = builder.spawn().await?;
        Ok(Self {
            store,
            runner,
            old,
            new,
        })
    }

    /// How far it is.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] and the database's own.
    pub async fn progress(&self) -> Result<RebuildProgress> {
        let partitions = self.store.subscription_status(&self.new).await?;
        let progress = RebuildProgress {
            position: partitions
                .iter()
                .map(|p| p.checkpoint)
                .min()
                .unwrap_or_default(),
            old_position: self.store.subscription_checkpoint(&self.old, None).await?,
            events_behind: partitions.iter().map(|p| p.events_behind).sum(),
            is_a_minimum: partitions.iter().any(|p| p.is_a_minimum),
        };
        tracing::info!(old = %self.old, new = %self.new, position = progress.position, behind = progress.events_behind, "rebuild");
        Ok(progress)
    }

    /// Puts the new version in the old one's place: runs `sql` (a view that now shows the new tables, say) and drops the
    /// old subscription, in one transaction, at a moment when the new version knows at least what the old one knew. Readers
    /// see the old until it commits and the new from then on, and never less than before. Returns the runner that goes on.
    ///
    /// The old version stands still while the new one catches up with it, so [be near](Self::progress) before. If it fails
    /// nothing has changed, and it may be tried again with another [`Rebuild`] of the same subscription.
    ///
    /// # Errors
    /// [`is_behind`](Error::is_behind) when the new version did not catch up in time; whatever `sql` raises;
    /// [`is_setup`](Error::is_setup) without the store's admin level.
    #[instrument(level = "debug", skip_all, fields(old = %self.old, new = %self.new), err(level = "debug"))]
    pub async fn switch(self, sql: &str, patience: Duration) -> Result<ProjectionRunner> {
        let tx = self.store.begin().await?;
        let doing = Doing::InTransaction(&self.old);
        let row = tx
            .conn()
            .row(&calls::DROP_SUBSCRIPTION, &[&self.old], doing)
            .await?;
        if !row
            .try_get::<_, bool>(0)
            .map_err(|e| from_driver(e, doing))?
        {
            return Err(Error::new(ErrorKind::Invalid {
                reason: format!("subscription {:?} does not exist", self.old),
            }));
        }
        // From here on the old one's checkpoint is locked, and everyone else still sees where it ended.
        let last = self.store.subscription_checkpoint(&self.old, None).await?;
        self.store.wait_for(&self.new, last, patience).await?;
        tx.sql()
            .batch_execute(sql)
            .await
            .map_err(|e| from_driver(e, doing))?;
        tx.commit().await?;
        tracing::info!(old = %self.old, new = %self.new, position = last, "switched");
        Ok(self.runner)
    }

    /// Gives up: the runner stops, the new subscription is dropped. Its tables are the program's to drop.
    ///
    /// # Errors
    /// Those of [`ProjectionRunner::shutdown`] and [`EventStore::drop_subscription`].
    pub async fn abandon(self) -> Result<()> {
        self.runner.shutdown().await?;
        self.store.drop_subscription(&self.new).await?;
        Ok(())
    }
}
