//! Replicas of one service share a subscription's partitions. Here three runners stand for three processes: one leaves in
//! good order, one dies, and the read model misses nothing and doubles nothing.
//!
//! `cargo run -p mire-client --example multi_replica`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mire_client::{
    BoxError, EventStore, ExpectedVersion, Incoming, NewEvent, ProjectionRunner, Raw, Subscription,
    Transaction, Transactional, TransactionalHandler, testing,
};

struct Sums;

impl TransactionalHandler for Sums {
    type Event = Raw;

    async fn handle(
        &self,
        event: &Incoming<'_, Raw>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let recorded = event.recorded;
        let sql = "INSERT INTO clicks (stream, clicks) VALUES ($1, 1) \
                   ON CONFLICT (stream) DO UPDATE SET clicks = clicks.clicks + 1";
        tx.sql().execute(sql, &[&recorded.stream]).await?;
        Ok(())
    }
}

async fn replica(url: &str, name: &str) -> Result<ProjectionRunner, BoxError> {
    let store = EventStore::connect(url).await?;
    let subscription = Subscription::new("clicks")
        .categories(["page"])
        .partitions(6);
    let runner = ProjectionRunner::builder(store)
        .subscribe(subscription, Transactional(Sums))
        .holder(name)
        .ttl(Duration::from_secs(2)) // how long partitions outlive a replica that died
        .recheck(Duration::from_millis(200))
        .spawn()
        .await?;
    Ok(runner)
}

/// Waits until the partitions are spread like this, and shows it.
async fn spread(store: &EventStore, what: &str, expected: &[usize]) -> Result<(), BoxError> {
    let started = Instant::now();
    loop {
        let mut held = BTreeMap::<String, usize>::new();
        for partition in store.subscription_status("clicks").await? {
            if let Some(holder) = partition.holder {
                let name = holder.split('/').next().unwrap_or_default().to_owned();
                *held.entry(name).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = held.values().copied().collect();
        counts.sort_unstable();
        if counts == expected {
            println!("{what} {held:?} after {:.1?}", started.elapsed());
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(20) {
            return Err(format!("{what} the partitions are spread as {held:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let sql = store.pool().get().await?;
    sql.batch_execute(
        "CREATE TABLE IF NOT EXISTS clicks (stream text PRIMARY KEY, clicks bigint NOT NULL)",
    )
    .await?;

    let one = replica(url, "one").await?;
    spread(&store, "one alone:     ", &[6]).await?;
    let two = replica(url, "two").await?;
    let three = replica(url, "three").await?;
    spread(&store, "two more come: ", &[2, 2, 2]).await?;

    let clicks = async {
        let mut last = 0;
        for number in 0..600 {
            let click =
                NewEvent::untyped("page.clicked", &serde_json::json!({ "number": number }))?;
            let stream = format!("page-{}", number % 30);
            last = store
                .append(stream, ExpectedVersion::Any, [click])
                .await?
                .position
                .unwrap_or(last);
        }
        Ok::<_, BoxError>(last)
    };
    let troubles = async {
        one.shutdown().await?;
        spread(&store, "one leaves:    ", &[3, 3]).await?;
        two.abort(); // as if its process had been killed
        spread(&store, "two is killed: ", &[6]).await
    };
    let (last, ()) = tokio::try_join!(clicks, troubles)?;

    store
        .wait_for("clicks", last, Duration::from_secs(20))
        .await?;
    let counted: i64 = sql
        .query_one("SELECT sum(clicks)::bigint FROM clicks", &[])
        .await?
        .get(0);
    println!("600 clicks, {counted} counted");
    assert_eq!(counted, 600);
    three.shutdown().await?;
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
