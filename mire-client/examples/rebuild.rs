//! A read model gets a new shape without downtime: the new version is built beside the old one, which goes on serving,
//! and takes its place in one transaction while writes go on.
//!
//! `cargo run -p mire-client --example rebuild`

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mire_client::{
    Batch, BatchHandler, BoxError, EventStore, ExpectedVersion, Incoming, NewEvent,
    ProjectionRunner, Raw, Rebuild, Subscription, Transaction, testing,
};

/// The first version: how many orders there are. The second also knows how much money that is.
struct Orders {
    insert: &'static str,
}

const FIRST: &str = "INSERT INTO orders_1 SELECT s, count(*) FROM unnest($1::text[], $2::bigint[]) AS o (s, cents) GROUP BY s \
     ON CONFLICT (stream) DO UPDATE SET orders = orders_1.orders + excluded.orders";
const SECOND: &str = "INSERT INTO orders_2 SELECT s, count(*), sum(cents) FROM unnest($1::text[], $2::bigint[]) AS o (s, cents) GROUP BY s \
     ON CONFLICT (stream) DO UPDATE SET orders = orders_2.orders + excluded.orders, cents = orders_2.cents + excluded.cents";

#[derive(serde::Serialize, serde::Deserialize)]
struct Placed {
    cents: i64,
}

impl BatchHandler for Orders {
    type Event = Raw;

    async fn handle(
        &self,
        events: &[Incoming<'_, Raw>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let (mut streams, mut cents) = (Vec::new(), Vec::new());
        for event in events {
            streams.push(event.recorded.stream.as_str());
            cents.push(event.recorded.data_as::<Placed>()?.cents);
        }
        tx.sql().execute(self.insert, &[&streams, &cents]).await?;
        Ok(())
    }
}

fn version(
    store: &EventStore,
    name: &str,
    insert: &'static str,
) -> mire_client::ProjectionRunnerBuilder {
    let subscription = Subscription::new(name)
        .categories(["customer"])
        .partitions(2);
    ProjectionRunner::builder(store.clone()).subscribe(subscription, Batch(Orders { insert }))
}

async fn order(store: &EventStore, number: i64) -> Result<i64, BoxError> {
    let placed = NewEvent::untyped("order.placed", &Placed { cents: 10 })?;
    let stream = format!("customer-{}", number % 50);
    let recorded = store.append(stream, ExpectedVersion::Any, [placed]).await?;
    Ok(recorded.position.unwrap_or_default())
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let sql = store.pool().get().await?;
    sql.batch_execute(
        "CREATE TABLE orders_1 (stream text PRIMARY KEY, orders bigint NOT NULL);
         CREATE VIEW orders AS SELECT stream, orders FROM orders_1",
    )
    .await?;
    let old = version(&store, "orders_1", FIRST).spawn().await?;
    for number in 0..2_000 {
        order(&store, number).await?;
    }

    sql.batch_execute("CREATE TABLE orders_2 (stream text PRIMARY KEY, orders bigint NOT NULL, cents numeric NOT NULL)").await?;
    let done = AtomicBool::new(false);
    let writes = async {
        let (mut number, mut last) = (2_000, 0);
        while !done.load(Ordering::Relaxed) {
            last = order(&store, number).await?;
            number += 1;
        }
        Ok::<_, BoxError>((number, last))
    };
    let rebuild = async {
        let rebuild = Rebuild::start(
            store.clone(),
            version(&store, "orders_2", SECOND),
            "orders_1",
            "orders_2",
        )
        .await?;
        loop {
            let progress = rebuild.progress().await?;
            println!(
                "rebuilt up to {}, {} events behind",
                progress.position, progress.events_behind
            );
            if progress.events_behind < 100 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let runner = rebuild
            .switch(
                "CREATE OR REPLACE VIEW orders AS SELECT stream, orders, cents FROM orders_2",
                Duration::from_secs(20),
            )
            .await?;
        println!("switched");
        tokio::time::sleep(Duration::from_millis(200)).await;
        done.store(true, Ordering::Relaxed);
        Ok::<_, BoxError>(runner)
    };
    let ((written, last), new) = tokio::try_join!(writes, rebuild)?;
    old.shutdown().await?;

    store
        .wait_for("orders_2", last, Duration::from_secs(20))
        .await?;
    let row = sql
        .query_one(
            "SELECT sum(orders)::bigint, sum(cents)::bigint FROM orders",
            &[],
        )
        .await?;
    let (orders, cents): (i64, i64) = (row.get(0), row.get(1));
    println!("{written} orders written, {orders} in the view, of {cents} cents");
    assert_eq!(
        (orders, cents),
        (written, written * 10),
        "nothing lost, nothing doubled"
    );
    new.shutdown().await?;
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
