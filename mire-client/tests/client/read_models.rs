//! What the tests of read models share: handlers, a runner, and patience.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mire_client::{
    BoxError, EventStore, Handler, Incoming, ProjectionRunner, ProjectionRunnerBuilder, Raw,
    RetryPolicy, Subscription, Transaction, Transactional, TransactionalHandler,
};

use super::common::{Account, AccountEvent, Fixture};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// Sums deposits into `balances`; fails when told to.
#[derive(Clone, Default)]
pub(crate) struct Balances {
    pub(crate) fail_on: Arc<Mutex<Option<String>>>,
    pub(crate) attempts: Arc<AtomicUsize>,
}

impl TransactionalHandler for Balances {
    type Event = AccountEvent;

    async fn handle(
        &self,
        event: &Incoming<'_, AccountEvent>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if let AccountEvent::Deposited { cents } = &event.event {
            let sql = "INSERT INTO balances VALUES ($1, $2, 1)
                ON CONFLICT (id) DO UPDATE SET cents = balances.cents + $2, events = balances.events + 1";
            tx.queue(sql, &[&event.id(), cents]).await?;
        }
        if self.fail_on.lock().unwrap().as_deref() == Some(event.id()) {
            return Err("told to fail".into());
        }
        Ok(())
    }
}

pub(crate) async fn with_balances(f: &Fixture) {
    let sql = "CREATE TABLE balances (id text PRIMARY KEY, cents bigint, events bigint)";
    f.session().await.batch_execute(sql).await.unwrap();
}

pub(crate) fn balances() -> Subscription {
    Subscription::new("balances").aggregate::<Account>()
}

/// A runner that soon knows what has changed and soon gives up.
pub(crate) fn runner(store: &EventStore) -> ProjectionRunnerBuilder {
    ProjectionRunner::builder(store.clone())
        .retry(
            RetryPolicy::new()
                .attempts(2)
                .first_pause(Duration::from_millis(5)),
        )
        .ttl(TTL)
        .recheck(Duration::from_millis(100))
}

pub(crate) async fn start(builder: ProjectionRunnerBuilder) -> ProjectionRunner {
    builder.spawn().await.unwrap()
}

/// A runner with one read model.
pub(crate) async fn run(
    store: &EventStore,
    subscription: Subscription,
    handler: Balances,
) -> ProjectionRunner {
    start(runner(store).subscribe(subscription, Transactional(handler))).await
}

/// Everything appended so far is handled.
pub(crate) async fn caught_up(store: &EventStore, name: &str) {
    let now = store.safe_position().await.unwrap();
    store.wait_for(name, now, PATIENCE).await.unwrap();
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let started = Instant::now();
    while !so().await {
        assert!(started.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Cents and events of all balances.
pub(crate) async fn total(f: &Fixture) -> (i64, i64) {
    let row = f
        .session()
        .await
        .query_one("SELECT coalesce(sum(cents), 0)::bigint, coalesce(sum(events), 0)::bigint FROM balances", &[])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// Notes what it is given.
#[derive(Clone, Default)]
pub(crate) struct Seen(pub(crate) Arc<Mutex<Vec<(String, i64, String)>>>);

impl Handler for Seen {
    type Event = Raw;

    async fn handle(&self, event: &Incoming<'_, Raw>) -> Result<(), BoxError> {
        let recorded = event.recorded;
        self.0.lock().unwrap().push((
            recorded.stream.clone(),
            recorded.version,
            recorded.event_type.clone(),
        ));
        Ok(())
    }
}
