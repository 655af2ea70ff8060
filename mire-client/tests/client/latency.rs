//! From commit to handler: in milliseconds, beside fifty idle subscriptions, whatever other transactions are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mire_client::{
    BoxError, ExpectedVersion, Handler, Incoming, Plain, ProjectionRunner, Raw, Subscription,
};

use super::common::{Fixture, fixture, note};
use super::read_models::{caught_up, until};

/// When each position reached the handler.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<i64, Instant>>>);

impl Handler for Arrivals {
    type Event = Raw;

    async fn handle(&self, event: &Incoming<'_, Raw>) -> Result<(), BoxError> {
        self.0
            .lock()
            .unwrap()
            .insert(event.recorded.position, Instant::now());
        Ok(())
    }
}

/// Appends at a modest rate and tells how long the events took from their commit to the handler: median and 99th.
async fn latencies(f: &Fixture, arrivals: &Arrivals, events: usize) -> (Duration, Duration) {
    let mut committed = Vec::with_capacity(events);
    for n in 0..events {
        let recorded = f
            .store
            .append(format!("note-{}", n % 20), ExpectedVersion::Any, [note(n)])
            .await
            .unwrap();
        committed.push((recorded.position.unwrap(), Instant::now()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    caught_up(&f.store, "notes").await;
    let arrivals = arrivals.0.lock().unwrap();
    let mut took: Vec<_> = committed
        .iter()
        // The handler may have it before the writer has its answer.
        .map(|(position, at)| arrivals[position].saturating_duration_since(*at))
        .collect();
    took.sort_unstable();
    (took[events / 2], took[events * 99 / 100])
}

/// The CPU time in ms that this process and its sessions' servers have used.
async fn cpu(f: &Fixture) -> (u64, u64) {
    let of = |pid: String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |n: usize| {
            after_name
                .split_whitespace()
                .nth(n)
                .and_then(|t| t.parse::<u64>().ok())
        };
        (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) * 10
    };
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()";
    let pids = f.session().await.query(sql, &[]).await.unwrap();
    let servers = pids
        .iter()
        .map(|row| of(row.get::<_, i32>(0).to_string()))
        .sum();
    (of("self".into()), servers)
}

#[tokio::test(flavor = "multi_thread")]
async fn news_reach_a_handler_in_milliseconds_beside_idle_subscriptions_and_a_long_transaction() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let events = if long { 10_000 } else { 120 };
    let f = fixture().await;
    let arrivals = Arrivals::default();
    let mut builder = ProjectionRunner::builder(f.store.clone()).subscribe(
        Subscription::new("notes").categories(["note"]),
        Plain(arrivals.clone()),
    );
    for n in 0..50 {
        let idle = Subscription::new(format!("idle{n}")).categories(["nothing"]);
        builder = builder.subscribe(idle, Plain(Arrivals::default()));
    }
    let runner = builder.spawn().await.unwrap();
    until("all are held", || async {
        f.number("SELECT count(*) FROM mire.subscription_status WHERE holder IS NOT NULL")
            .await
            == 51
    })
    .await;

    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = cpu(&f).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = cpu(&f).await;
    println!(
        "5 s idle with 51 subscriptions: {} ms of CPU here (all tests of this process), {} ms in the server",
        after.0 - before.0,
        after.1.saturating_sub(before.1)
    );

    let alone = latencies(&f, &arrivals, events).await;
    let other = f.session().await;
    other
        .batch_execute("BEGIN; CREATE TABLE in_the_way (); SELECT pg_current_xact_id()")
        .await
        .unwrap();
    let beside = latencies(&f, &arrivals, events).await;
    other.batch_execute("ROLLBACK").await.unwrap();
    println!(
        "{events} events from commit to handler: p50 {:.1?}, p99 {:.1?}",
        alone.0, alone.1
    );
    println!(
        "beside a transaction with an id of its own: p50 {:.1?}, p99 {:.1?}",
        beside.0, beside.1
    );
    assert!(alone.0 < Duration::from_millis(100) && beside.0 < Duration::from_millis(100));
    runner.shutdown().await.unwrap();
}
