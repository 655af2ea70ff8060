//! Catching up: in large pages, fetched ahead, within memory that stays flat.

use std::time::{Duration, Instant};

use mire_client::{
    Batch, BatchHandler, BoxError, EventStore, Handler, Incoming, NewEvent, Plain,
    ProjectionRunner, Raw, Subscription, Transaction,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::common::{Account, AccountEvent, Fixture, exactly, fixture, note};
use super::read_models::{Balances, balances, caught_up, run, until, with_balances};

const STREAMS: i64 = 500;

/// Deposits of a cent, over many streams.
async fn deposits(f: &Fixture, events: i64) {
    let sql = "SELECT count(*) FROM generate_series(1, $1::bigint / 1000) AS batch,
        LATERAL mire.append_events('account-' || batch % 500, array_fill('account.deposited'::text, ARRAY[1000]),
          array_fill('{\"cents\": 1}'::jsonb, ARRAY[1000]), NULL, NULL, NULL)";
    f.session().await.query(sql, &[&events]).await.unwrap();
}

/// What the process has in memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Sets;

impl BatchHandler for Sets {
    type Event = AccountEvent;

    async fn handle(
        &self,
        events: &[Incoming<'_, AccountEvent>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let ids: Vec<&str> = events.iter().map(Incoming::id).collect();
        let sql = "INSERT INTO balances SELECT id, count(*), count(*) FROM unnest($1::text[]) AS u (id) GROUP BY id ORDER BY id
            ON CONFLICT (id) DO UPDATE SET cents = balances.cents + excluded.cents, events = balances.events + excluded.events";
        tx.sql().execute(sql, &[&ids]).await?;
        Ok(())
    }
}

async fn catches_up<H: mire_client::AnyHandler>(
    f: &Fixture,
    events: i64,
    partitions: u32,
    handler: H,
) -> Duration {
    let sql = "DELETE FROM balances; SELECT mire.drop_subscription('balances')";
    f.session().await.batch_execute(sql).await.unwrap();
    let started = Instant::now();
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(balances().partitions(partitions), handler)
        .spawn()
        .await
        .unwrap();
    let now = f.store.safe_position().await.unwrap();
    f.store
        .wait_for("balances", now, Duration::from_secs(600))
        .await
        .unwrap();
    let time = started.elapsed();
    runner.shutdown().await.unwrap();
    let counted = f.number("SELECT sum(events)::bigint FROM balances").await;
    assert_eq!(counted, events);
    time
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_over_many_events_is_built_in_flat_memory() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let events = if long { 1_000_000 } else { 20_000 };
    let f = fixture().await;
    with_balances(&f).await;
    deposits(&f, events).await;
    assert_eq!(
        f.number("SELECT count(*) FROM mire.streams").await,
        STREAMS.min(events / 1000)
    );
    let before = resident();
    for partitions in [1, 4] {
        let time = catches_up(&f, events, partitions, Batch(Sets)).await;
        let peak = resident().saturating_sub(before);
        println!(
            "{events} events by the page over {partitions} partitions in {time:.1?}, {peak} KiB more in memory"
        );
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 * 1024, "{grown} KiB more than before");
}

/// Keeps the largest page it was given.
struct Large(Arc<AtomicUsize>);

impl BatchHandler for Large {
    type Event = Raw;

    async fn handle(
        &self,
        events: &[Incoming<'_, Raw>],
        _: &mut Transaction,
    ) -> Result<(), BoxError> {
        let bytes = events
            .iter()
            .map(|event| event.recorded.data.as_str().len())
            .sum();
        self.0.fetch_max(bytes, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_bounded_by_bytes() {
    let f = fixture().await;
    let large = serde_json::json!({ "text": "x".repeat(20_000) });
    for stream in 0..8 {
        let events: Vec<_> = (0..50)
            .map(|_| NewEvent::untyped("large.event", &large).unwrap())
            .collect();
        f.store
            .append(format!("large-{stream}"), exactly(0), events)
            .await
            .unwrap();
    }
    let most = Arc::new(AtomicUsize::new(0));
    let runner = ProjectionRunner::builder(f.store.clone())
        .subscribe(
            Subscription::new("large").page(1_000, 500_000),
            Batch(Large(most.clone())),
        )
        .spawn()
        .await
        .unwrap();
    caught_up(&f.store, "large").await;
    runner.shutdown().await.unwrap();
    let most = most.load(Ordering::SeqCst);
    assert!((400_000..=500_000).contains(&most), "{most}");
}

/// Counts deposits as they come.
struct Slow(Arc<AtomicUsize>);

impl Handler for Slow {
    type Event = Raw;

    async fn handle(&self, _: &Incoming<'_, Raw>) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_handler_that_leaves_in_good_order_is_given_nothing_twice() {
    let f = fixture().await;
    for n in 0..500 {
        f.store
            .append("note-1", exactly(n), [note(n)])
            .await
            .unwrap();
    }
    let handled = Arc::new(AtomicUsize::new(0));
    let start = |store: EventStore| {
        ProjectionRunner::builder(store)
            .subscribe(Subscription::new("slow"), Plain(Slow(handled.clone())))
            .recheck(Duration::from_millis(50))
            .spawn()
    };
    while handled.load(Ordering::SeqCst) < 500 {
        let before = handled.load(Ordering::SeqCst);
        let runner = start(f.store.clone()).await.unwrap();
        until("some are handled", || async {
            handled.load(Ordering::SeqCst) >= (before + 150).min(500)
        })
        .await;
        runner.shutdown().await.unwrap();
    }
    let runner = start(f.store.clone()).await.unwrap();
    caught_up(&f.store, "slow").await;
    runner.shutdown().await.unwrap();
    assert_eq!(handled.load(Ordering::SeqCst), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_filter_is_no_disorder() {
    let f = fixture().await;
    with_balances(&f).await;
    for n in 0..6 {
        f.store
            .append("note-1", exactly(n), [note(n)])
            .await
            .unwrap();
        super::common::account_of(&f.store, "1", 1).await;
    }
    let runner = run(
        &f.store,
        Subscription::new("balances").aggregate::<Account>(),
        Balances::default(),
    )
    .await;
    caught_up(&f.store, "balances").await;
    let alter = "SELECT mire.alter_subscription('balances', ARRAY['account', 'note'])";
    f.session().await.batch_execute(alter).await.unwrap();
    f.store
        .append("note-1", exactly(6), [note(6)])
        .await
        .unwrap();
    super::common::account_of(&f.store, "1", 1).await;
    caught_up(&f.store, "balances").await;
    assert!(!f.store.subscription_status("balances").await.unwrap()[0].paused);
    assert_eq!(f.number("SELECT events FROM balances").await, 7);
    runner.shutdown().await.unwrap();
}

/// Balances that are right the moment the save is.
struct InlineBalances;

impl mire_client::InlineProjection for InlineBalances {
    type Aggregate = Account;

    async fn project(
        &self,
        root: &mire_client::AggregateRoot<Account>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let events = i64::try_from(root.pending().len())?;
        let sql = "INSERT INTO balances VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE SET cents = $2, events = balances.events + $3";
        tx.sql()
            .execute(sql, &[&root.id(), &root.state().cents, &events])
            .await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_projection_commits_with_the_events_or_not_at_all() {
    let f = fixture().await;
    with_balances(&f).await;
    for commit in [true, false] {
        let mut tx = f.store.begin().await.unwrap();
        let mut account = tx.load_or_default::<Account>("1").await.unwrap();
        account.record_many([super::common::deposited(5), super::common::deposited(7)]);
        tx.save_projected(&mut account, &InlineBalances)
            .await
            .unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(f.number("SELECT cents FROM balances").await, 12);
        assert_eq!(f.store.stream_version("account-1").await.unwrap(), 2);
    }
    let mut stale = f.store.load::<Account>("1").await.unwrap();
    super::common::account_of(&f.store, "1", 1).await;
    stale.record(super::common::deposited(1));
    let mut tx = f.store.begin().await.unwrap();
    assert!(
        tx.save_projected(&mut stale, &InlineBalances)
            .await
            .is_err(),
        "a conflict"
    );
    drop(tx);
    assert_eq!(f.number("SELECT cents FROM balances").await, 12);
}
