//! Read models that move with their checkpoint: effectively once, in order, and apart from each other's troubles.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mire_client::{
    Batch, BatchHandler, BoxError, EventStore, ExpectedVersion, Handler, Incoming, NewEvent,
    OnFailure, Plain, ProjectionRunner, Raw, RetryPolicy, Subscription, Transaction, Transactional,
    TransactionalHandler, UnknownEvents, projected_events, sqlstate,
};

use super::common::{Account, AccountEvent, Fixture, account_of, exactly, fixture, note, session};

const PATIENCE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(2);

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
            tx.sql().execute(sql, &[&event.id(), cents]).await?;
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

pub(crate) async fn run(
    store: &EventStore,
    subscription: Subscription,
    handler: Balances,
) -> ProjectionRunner {
    ProjectionRunner::builder(store.clone())
        .subscribe(subscription, Transactional(handler))
        .retry(
            RetryPolicy::new()
                .attempts(2)
                .first_pause(Duration::from_millis(5)),
        )
        .ttl(TTL)
        .recheck(Duration::from_millis(100))
        .spawn()
        .await
        .unwrap()
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

async fn total(f: &Fixture) -> (i64, i64) {
    let row = f
        .session()
        .await
        .query_one("SELECT coalesce(sum(cents), 0)::bigint, coalesce(sum(events), 0)::bigint FROM balances", &[])
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactional_read_model_equals_the_log() {
    let f = fixture().await;
    with_balances(&f).await;
    for id in 0..20 {
        account_of(&f.store, &id.to_string(), 30).await;
    }
    let runner = run(&f.store, balances().partitions(4), Balances::default()).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (600, 600));
    // Live.
    for id in 0..20 {
        account_of(&f.store, &id.to_string(), 2).await;
    }
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (640, 640));
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_attempt_wrote_is_rolled_back_and_the_subscription_stops_until_resumed() {
    let f = fixture().await;
    with_balances(&f).await;
    let handler = Balances::default();
    *handler.fail_on.lock().unwrap() = Some("3".into());
    for id in 1..=5 {
        account_of(&f.store, &id.to_string(), 1).await;
    }
    let runner = run(&f.store, balances(), handler.clone()).await;
    until("paused", || async {
        f.store.subscription_status("balances").await.unwrap()[0].paused
    })
    .await;
    assert_eq!(
        total(&f).await,
        (2, 2),
        "accounts 1 and 2, and nothing of 3"
    );
    let status = &f.store.subscription_status("balances").await.unwrap()[0];
    assert!(
        status
            .last_error
            .as_deref()
            .unwrap()
            .contains("told to fail"),
        "{status:?}"
    );
    assert_eq!(status.events_behind, 3);

    *handler.fail_on.lock().unwrap() = None;
    f.store.resume_subscription("balances").await.unwrap();
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (5, 5));
    assert!(
        f.store.subscription_status("balances").await.unwrap()[0]
            .last_error
            .is_none()
    );
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_parks_its_stream_and_others_go_on_until_an_operator_decides() {
    let f = fixture().await;
    with_balances(&f).await;
    let handler = Balances::default();
    *handler.fail_on.lock().unwrap() = Some("bad".into());
    let definition = balances().on_failure(OnFailure::Park).page(3, 1 << 20);
    let runner = run(&f.store, definition, handler.clone()).await;
    for n in 0..10 {
        account_of(&f.store, "bad", 1).await;
        account_of(&f.store, &format!("good{n}"), 1).await;
    }
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (10, 10), "the good ones");
    assert_eq!(
        f.store.subscription_status("balances").await.unwrap()[0].parked_streams,
        1
    );

    // Retried in vain: parked again.
    f.store
        .retry_parked("balances", "account-bad")
        .await
        .unwrap();
    until("parked again", || async {
        f.number("SELECT count(*) FROM mire.subscription_errors WHERE NOT retry AND attempts >= 4")
            .await
            == 1
    })
    .await;
    account_of(&f.store, "bad", 1).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (10, 10));

    // Retried with success: the first event and all that was held back, each once.
    *handler.fail_on.lock().unwrap() = None;
    f.store
        .retry_parked("balances", "account-bad")
        .await
        .unwrap();
    until("through", || async { total(&f).await == (21, 21) }).await;
    account_of(&f.store, "bad", 1).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (22, 22));
    assert_eq!(
        f.store.subscription_status("balances").await.unwrap()[0].parked_streams,
        0
    );

    // Skipped: one event is given up.
    *handler.fail_on.lock().unwrap() = Some("bad".into());
    account_of(&f.store, "bad", 3).await;
    caught_up(&f.store, "balances").await;
    *handler.fail_on.lock().unwrap() = None;
    f.store
        .skip_parked("balances", "account-bad")
        .await
        .unwrap();
    until("through", || async { total(&f).await == (24, 24) }).await;
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subscriptions_poison_never_stops_another() {
    let f = fixture().await;
    with_balances(&f).await;
    let seen = Seen::default();
    let broken = Balances::default();
    *broken.fail_on.lock().unwrap() = Some("1".into());
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(balances(), Transactional(broken))
        .subscribe(Subscription::new("everything"), Plain(seen.clone()))
        .retry(RetryPolicy::none())
        .ttl(TTL)
        .spawn()
        .await
        .unwrap();
    for id in 1..=9 {
        account_of(&f.store, &id.to_string(), 1).await;
    }
    caught_up(&f.store, "everything").await;
    assert_eq!(seen.0.lock().unwrap().len(), 9);
    until("paused", || async {
        f.store.subscription_status("balances").await.unwrap()[0].paused
    })
    .await;
    assert!(!f.store.subscription_status("everything").await.unwrap()[0].paused);
    runner.shutdown().await.unwrap();
}

/// Notes what it is given.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, i64, String)>>>);

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

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_handler_sees_tombstones_and_erased_versions_are_no_disorder() {
    let f = fixture().await;
    for n in 0..10 {
        f.store
            .append("note-1", exactly(n), [note(n)])
            .await
            .unwrap();
    }
    f.store.truncate_stream("note-1", 8).await.unwrap();
    f.store
        .append("note-2", ExpectedVersion::NoStream, [note(0)])
        .await
        .unwrap();
    f.store
        .delete_stream("note-2", ExpectedVersion::Any)
        .await
        .unwrap();
    let seen = Seen::default();
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(Subscription::new("everything"), Plain(seen.clone()))
        .spawn()
        .await
        .unwrap();
    caught_up(&f.store, "everything").await;
    runner.shutdown().await.unwrap();
    let seen = seen.0.lock().unwrap();
    let of =
        |stream: &str| -> Vec<i64> { seen.iter().filter(|s| s.0 == stream).map(|s| s.1).collect() };
    assert_eq!(of("note-1"), [8, 9, 10, 11]);
    assert_eq!(
        seen.iter().filter(|s| s.2.starts_with('$')).count(),
        2,
        "{seen:?}"
    );
}

struct Sets(Arc<AtomicUsize>);

impl BatchHandler for Sets {
    type Event = AccountEvent;

    async fn handle(
        &self,
        events: &[Incoming<'_, AccountEvent>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        self.0.fetch_max(events.len(), Ordering::SeqCst);
        let (mut ids, mut cents) = (Vec::new(), Vec::new());
        for event in events {
            if let AccountEvent::Deposited { cents: c } = event.event {
                ids.push(event.id());
                cents.push(c);
            }
        }
        let sql = "INSERT INTO balances SELECT id, sum(c), count(*) FROM unnest($1::text[], $2::bigint[]) AS u (id, c) GROUP BY id
            ON CONFLICT (id) DO UPDATE SET cents = balances.cents + excluded.cents, events = balances.events + excluded.events";
        tx.sql().execute(sql, &[&ids, &cents]).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_gets_pages() {
    let f = fixture().await;
    with_balances(&f).await;
    for id in 0..10 {
        account_of(&f.store, &id.to_string(), 200).await;
    }
    let most = Arc::new(AtomicUsize::new(0));
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(balances(), Batch(Sets(most.clone())))
        .spawn()
        .await
        .unwrap();
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (2000, 2000));
    assert!(most.load(Ordering::SeqCst) > 100);
    runner.shutdown().await.unwrap();
}

projected_events! {
    enum Known {
        Account(AccountEvent),
    }
}

struct Strict;

impl Handler for Strict {
    type Event = Known;

    async fn handle(&self, event: &Incoming<'_, Known>) -> Result<(), BoxError> {
        let Known::Account(_) = &event.event;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_events_are_skipped_or_refused_by_choice() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    let strange = NewEvent::untyped("account.unheard-of", &serde_json::json!({})).unwrap();
    f.store
        .append("account-1", ExpectedVersion::Any, [strange])
        .await
        .unwrap();
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(
            Subscription::new("lenient").aggregate::<Account>(),
            Plain(Strict),
        )
        .subscribe(
            Subscription::new("strict")
                .aggregate::<Account>()
                .unknown_events(UnknownEvents::Refuse),
            Plain(Strict),
        )
        .retry(RetryPolicy::none())
        .spawn()
        .await
        .unwrap();
    caught_up(&f.store, "lenient").await;
    until("paused", || async {
        f.store.subscription_status("strict").await.unwrap()[0].paused
    })
    .await;
    let status = &f.store.subscription_status("strict").await.unwrap()[0];
    assert!(
        status.last_error.as_deref().unwrap().contains("unheard-of"),
        "{status:?}"
    );
    assert_eq!(
        status.checkpoint,
        f.number("SELECT min(position) FROM mire.events").await
    );
    runner.shutdown().await.unwrap();
}

/// Takes its time when told to.
#[derive(Clone, Default)]
struct Slow {
    busy: Arc<AtomicBool>,
    balances: Balances,
    pause: Arc<Mutex<Duration>>,
}

impl TransactionalHandler for Slow {
    type Event = AccountEvent;

    async fn handle(
        &self,
        event: &Incoming<'_, AccountEvent>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        self.balances.handle(event, tx).await?;
        self.busy.store(true, Ordering::SeqCst);
        let until = Instant::now() + *self.pause.lock().unwrap();
        while Instant::now() < until {
            tokio::time::sleep(TTL / 8).await;
            tx.sql().batch_execute("SELECT").await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_kept_while_a_handler_works_for_longer_than_the_ttl() {
    let f = fixture().await;
    with_balances(&f).await;
    let slow = Slow::default();
    *slow.pause.lock().unwrap() = TTL * 2;
    account_of(&f.store, "1", 1).await;
    let build = || {
        ProjectionRunner::builder(f.store.clone())
            .subscribe(balances(), Transactional(slow.clone()))
            .ttl(TTL)
            .spawn()
    };
    let first = build().await.unwrap();
    until("busy", || async { slow.busy.load(Ordering::SeqCst) }).await;
    let second = build().await.unwrap();
    caught_up(&f.store, "balances").await;
    assert_eq!(slow.balances.attempts.load(Ordering::SeqCst), 1);
    assert_eq!(total(&f).await, (1, 1));
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_workers_writes_are_refused_by_the_database() {
    let f = fixture().await;
    with_balances(&f).await;
    let slow = Slow::default();
    *slow.pause.lock().unwrap() = Duration::from_millis(700);
    account_of(&f.store, "1", 1).await;
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(balances(), Transactional(slow.clone()))
        .ttl(TTL)
        .recheck(Duration::from_secs(1))
        .spawn()
        .await
        .unwrap();
    until("busy", || async { slow.busy.load(Ordering::SeqCst) }).await;
    // Its checkpoints are moved from under it, which supersedes it, while it is in the middle of its transaction.
    let fence = f.number("SELECT fence FROM mire.checkpoints").await;
    f.store.reset_subscription("balances", 0).await.unwrap();
    *slow.pause.lock().unwrap() = Duration::ZERO;
    caught_up(&f.store, "balances").await;
    assert_eq!(
        slow.balances.attempts.load(Ordering::SeqCst),
        2,
        "handled twice,"
    );
    assert_eq!(total(&f).await, (1, 1), "and written once");
    assert!(f.number("SELECT fence FROM mire.checkpoints").await > fence);
    let session = session(&f.database.url).await;
    let refused = session
        .execute("SELECT mire.checkpoint('balances', 0, $1, 1)", &[&fence])
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), sqlstate::LEASE_LOST);
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_epoch_stops_the_runner_until_it_is_confirmed() {
    let f = fixture().await;
    with_balances(&f).await;
    account_of(&f.store, "1", 1).await;
    let mut runner = run(&f.store, balances(), Balances::default()).await;
    caught_up(&f.store, "balances").await;
    f.session()
        .await
        .batch_execute("SELECT mire.new_epoch()")
        .await
        .unwrap();
    let error = tokio::time::timeout(PATIENCE, runner.stopped())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_epoch_changed(), "{error}");
    account_of(&f.store, "1", 1).await;

    let mut again = run(&f.store, balances(), Balances::default()).await;
    let error = tokio::time::timeout(PATIENCE, again.stopped())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_epoch_changed(), "a restart does not forget");
    assert_eq!(total(&f).await, (1, 1));

    f.store.confirm_epoch("balances").await.unwrap();
    let confirmed = run(&f.store, balances(), Balances::default()).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (2, 2));
    confirmed.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_definition_under_the_same_name_is_refused() {
    let f = fixture().await;
    let runner = run(&f.store, balances(), Balances::default()).await;
    let clash = ProjectionRunner::builder(f.store.clone())
        .subscribe(balances().partitions(2), Transactional(Balances::default()))
        .spawn()
        .await
        .unwrap_err();
    assert_eq!(clash.sqlstate(), Some(sqlstate::DUPLICATE_OBJECT));
    let error = f.store.wait_for("unheard-of", 1, TTL).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some(sqlstate::UNDEFINED_OBJECT));
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_panic_is_a_failure_like_any_other() {
    struct Panics;
    impl Handler for Panics {
        type Event = Raw;
        async fn handle(&self, event: &Incoming<'_, Raw>) -> Result<(), BoxError> {
            assert!(event.recorded.stream != "note-2", "cannot stand note-2");
            Ok(())
        }
    }
    let f = fixture().await;
    for stream in ["note-1", "note-2", "note-3"] {
        f.store
            .append(stream, ExpectedVersion::Any, [note(1)])
            .await
            .unwrap();
    }
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(
            Subscription::new("panics").on_failure(OnFailure::Park),
            Plain(Panics),
        )
        .retry(RetryPolicy::none())
        .spawn()
        .await
        .unwrap();
    caught_up(&f.store, "panics").await;
    let rows = f
        .session()
        .await
        .query("SELECT stream, error FROM mire.subscription_errors", &[])
        .await
        .unwrap();
    assert_eq!((rows.len(), rows[0].get::<_, &str>(0)), (1, "note-2"));
    assert!(rows[0].get::<_, String>(1).contains("cannot stand note-2"));
    runner.shutdown().await.unwrap();
}
