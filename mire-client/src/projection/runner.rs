//! [`ProjectionRunner`]: subscriptions with their handlers, run by this process beside its replicas.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::context::{Context, Status, Subscribed};
use super::fleet::Fleet;
use super::handler::{AnyHandler, Drive};
use super::news;
use super::retry::{OnFailure, RetryPolicy};
use super::subscription::Subscription;
use crate::connection::{Conn, PrivateConn, Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::store::EventStore;

/// Runs subscriptions: hands events to handlers, and keeps their checkpoints.
///
/// Start as many processes with the same subscriptions as you like. Each partition is driven by exactly one of them at a
/// time, and the database refuses the work of one that has been replaced; they share the partitions evenly and take over
/// from one that is gone within the time to live plus a recheck. An idle runner asks one cheap question per recheck, and
/// news wake it within milliseconds.
///
/// ```no_run
/// use mire_client::{BoxError, EventStore, Incoming, ProjectionRunner, Subscription, Transaction, Transactional, TransactionalHandler};
/// # use mire_client::{Aggregate, EventData};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(entity = "account")]
/// # enum AccountEvent { Deposited { cents: i64 } }
/// # #[derive(Default)] struct Account;
/// # impl Aggregate for Account { type Event = AccountEvent; const CATEGORY: &'static str = "account"; fn apply(&mut self, _: &AccountEvent) {} }
///
/// struct Balances;
///
/// impl TransactionalHandler for Balances {
///     type Event = AccountEvent;
///
///     async fn handle(&self, event: &Incoming<'_, AccountEvent>, tx: &mut Transaction) -> Result<(), BoxError> {
///         let AccountEvent::Deposited { cents } = &event.event;
///         let sql = "INSERT INTO balances VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET cents = balances.cents + $2";
///         tx.queue(sql, &[&event.id(), cents]).await?;
///         Ok(())
///     }
/// }
///
/// # async fn f(store: EventStore) -> mire_client::Result<()> {
/// let runner = ProjectionRunner::builder(store)
///     .subscribe(Subscription::new("balances").aggregate::<Account>().partitions(4), Transactional(Balances))
///     .spawn()
///     .await?;
/// // …
/// runner.shutdown().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct ProjectionRunner {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<Result<()>>>,
    holder: String,
}

/// Builds and starts a [`ProjectionRunner`].
#[must_use]
pub struct ProjectionRunnerBuilder {
    store: EventStore,
    subscriptions: Vec<(Subscription, Box<dyn Drive>)>,
    holder: String,
    ttl: Duration,
    recheck: Duration,
    grace: Option<Duration>,
    retry: RetryPolicy,
    on_failure: OnFailure,
}

impl std::fmt::Debug for ProjectionRunnerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProjectionRunnerBuilder")
            .field(
                "subscriptions",
                &self
                    .subscriptions
                    .iter()
                    .map(|(s, _)| &s.name)
                    .collect::<Vec<_>>(),
            )
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl ProjectionRunner {
    /// Begins with a store and nothing else.
    pub fn builder(store: EventStore) -> ProjectionRunnerBuilder {
        ProjectionRunnerBuilder {
            store,
            subscriptions: Vec::new(),
            holder: format!("process-{}", std::process::id()),
            ttl: Duration::from_secs(10),
            recheck: Duration::from_secs(1),
            grace: None,
            retry: RetryPolicy::new(),
            on_failure: OnFailure::Stop,
        }
    }

    /// What it is called in `mire.subscription_status` and `mire.lease_status`.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Stops: handlers finish what they are at, and all partitions are given back, so that replicas go on at once.
    ///
    /// # Errors
    /// What had stopped the runner before, if anything: see [`stopped`](Self::stopped).
    pub async fn shutdown(mut self) -> Result<()> {
        self.stop.send_replace(true);
        self.stopped().await
    }

    /// Waits until the runner stops by itself, which it does only when it must.
    ///
    /// # Errors
    /// [`is_epoch_changed`](Error::is_epoch_changed): history has forked (a restore, a failover that lost commits). Look
    /// at the read models, then [`confirm_epoch`](EventStore::confirm_epoch) for each subscription and start again.
    pub async fn stopped(&mut self) -> Result<()> {
        match &mut self.task {
            Some(task) => {
                let outcome = task
                    .await
                    .unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed)));
                self.task = None;
                outcome
            }
            None => Ok(()),
        }
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops at once, as a crash would: what is in hand is dropped, and leases run out by themselves. For tests.
    #[doc(hidden)]
    pub fn abort(self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for ProjectionRunner {
    fn drop(&mut self) {
        // It leaves in good order in the background, if its runtime goes on.
        self.stop.send_replace(true);
    }
}

impl ProjectionRunnerBuilder {
    /// Adds a subscription and its handler: [`Plain`](crate::Plain), [`Transactional`](crate::Transactional) or
    /// [`Batch`](crate::Batch).
    pub fn subscribe(mut self, subscription: Subscription, handler: impl AnyHandler) -> Self {
        self.subscriptions.push((subscription, Box::new(handler)));
        self
    }

    /// What this process is called (`process-PID` if not said). Something unique is added: two processes of one name would
    /// take each other's partitions.
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holder = name.into();
        self
    }

    /// How long partitions outlive a process that died: 10 s if not said. A transaction of a handler that sits idle for
    /// longer is cut off.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How often to look who else is there and what is free: every second if not said, and at least four times per ttl.
    pub fn recheck(mut self, interval: Duration) -> Self {
        self.recheck = interval;
        self
    }

    /// How long handlers may take to finish at [`shutdown`](ProjectionRunner::shutdown): the ttl if not said.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// How often a failing event is tried, unless its subscription says otherwise.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// What happens when all attempts have failed, unless its subscription says otherwise.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Registers the subscriptions and runs in the background, until [`shutdown`](ProjectionRunner::shutdown), or until
    /// the answer is dropped.
    ///
    /// # Errors
    /// `42710` ([`sqlstate::DUPLICATE_OBJECT`](crate::sqlstate::DUPLICATE_OBJECT)) when a subscription of that name has
    /// another definition, [`is_invalid`](Error::is_invalid), [`is_epoch_changed`](Error::is_epoch_changed) is told by
    /// [`stopped`](ProjectionRunner::stopped), [`ErrorKind::Config`] for two subscriptions of one name.
    pub async fn spawn(self) -> Result<ProjectionRunner> {
        let names: std::collections::HashSet<_> = self
            .subscriptions
            .iter()
            .map(|(s, _)| s.name.clone())
            .collect();
        if names.len() < self.subscriptions.len() || names.is_empty() {
            return Err(Error::new(ErrorKind::Config {
                reason: "a runner needs subscriptions, each of its own name".into(),
            }));
        }
        let holder = format!("{}/{}", self.holder, Uuid::now_v7().simple());
        let conn = self.store.connector.withdrawn().await?;
        let definitions = self.subscriptions.iter().map(|(definition, _)| definition);
        register(&conn, definitions.collect()).await?;
        let mut subscribed = Vec::new();
        for (definition, handler) in self.subscriptions {
            subscribed.push(Arc::new(Subscribed {
                retry: definition.retry.unwrap_or(self.retry),
                on_failure: definition.on_failure.unwrap_or(self.on_failure),
                news: watch::Sender::new(0),
                hint: watch::Sender::new(0),
                status: watch::Sender::new(Status::default()),
                definition,
                handler,
            }));
        }
        let context = Arc::new(Context::new(self.store.clone(), holder.clone(), self.ttl));
        let fleet = Fleet::new(
            context,
            conn,
            subscribed.clone(),
            self.recheck.min(self.ttl / 4),
            self.grace.unwrap_or(self.ttl),
        );
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(async move {
            tokio::select! {
                outcome = fleet.run(stopping) => outcome,
                () = news::announce(self.store, subscribed) => Ok(()),
            }
        });
        Ok(ProjectionRunner {
            stop,
            task: Some(task),
            holder,
        })
    }

    /// Runs until it must stop.
    ///
    /// # Errors
    /// Those of [`spawn`](Self::spawn) and [`stopped`](ProjectionRunner::stopped).
    pub async fn run(self) -> Result<()> {
        self.spawn().await?.stopped().await
    }

    /// Runs until something else has happened (a signal to end, say), and then leaves in good order.
    ///
    /// # Errors
    /// Those of [`spawn`](Self::spawn) and [`stopped`](ProjectionRunner::stopped).
    pub async fn run_until(self, end: impl Future<Output = ()>) -> Result<()> {
        let mut runner = self.spawn().await?;
        tokio::select! {
            outcome = runner.stopped() => return outcome,
            () = end => {}
        }
        runner.shutdown().await
    }
}

/// Registers subscriptions: all or none, with one commit. After an error the connection is good for nothing but to be closed.
async fn register(conn: &Conn<PrivateConn>, mut definitions: Vec<&Subscription>) -> Result<()> {
    /// So many are asked for before the first answer is here.
    const TOGETHER: usize = 16;
    // Every process in this order, so that none waits for another that waits for it.
    definitions.sort_unstable_by_key(|definition| &definition.name);
    let doing = Doing::Reading("subscriptions");
    conn.batch("BEGIN")
        .await
        .map_err(|e| from_driver(e, doing))?;
    let together = if conn.prepared() { TOGETHER } else { 1 };
    let mut registering = Vec::with_capacity(definitions.len());
    for definition in definitions {
        registering.push(register_one(conn, definition).boxed());
    }
    stream::iter(registering)
        .buffered(together)
        .try_for_each(async |()| Ok(()))
        .await?;
    conn.batch("COMMIT")
        .await
        .map_err(|e| from_driver(e, doing))
}

async fn register_one(conn: &Conn<PrivateConn>, definition: &Subscription) -> Result<()> {
    let (start, partitions) = definition.to_sql()?;
    let Subscription {
        name,
        categories,
        types,
        ..
    } = definition;
    conn.rows(
        &calls::CREATE_SUBSCRIPTION,
        &[name, categories, types, &start, &partitions],
    )
    .await
    .map_err(|e| from_driver(e, Doing::InTransaction(name)))?;
    Ok(())
}
