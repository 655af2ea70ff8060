//! A read model that follows the log: a table of balances, written in the transaction that moves the checkpoint.
//!
//! `cargo run -p mire-client --example projection`

use std::time::Duration;

use mire_client::{
    Aggregate, BoxError, EventData, EventStore, Incoming, OnFailure, ProjectionRunner,
    Subscription, Transaction, Transactional, TransactionalHandler, testing,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "account")]
enum AccountEvent {
    Deposited { cents: i64 },
    Withdrawn { cents: i64 },
}

#[derive(Debug, Default)]
struct Account {
    cents: i64,
}

impl Aggregate for Account {
    type Event = AccountEvent;
    const CATEGORY: &'static str = "account";

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

struct Balances;

impl TransactionalHandler for Balances {
    type Event = AccountEvent;

    async fn handle(
        &self,
        event: &Incoming<'_, AccountEvent>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let change = match event.event {
            AccountEvent::Deposited { cents } => cents,
            AccountEvent::Withdrawn { cents } => -cents,
        };
        // Adding is safe: what is written here commits with the checkpoint or not at all, so no event counts twice.
        let sql = "INSERT INTO balances (id, cents) VALUES ($1, $2) \
                   ON CONFLICT (id) DO UPDATE SET cents = balances.cents + $2";
        tx.sql().execute(sql, &[&event.id(), &change]).await?;
        Ok(())
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let sql = store.pool().get().await?;
    sql.batch_execute(
        "CREATE TABLE IF NOT EXISTS balances (id text PRIMARY KEY, cents bigint NOT NULL)",
    )
    .await?;

    // Two partitions: accounts are spread over two workers, and each account's events stay in order. An account whose
    // event cannot be handled is put aside for an operator; the others go on.
    let runner = ProjectionRunner::builder(store.clone())
        .subscribe(
            Subscription::new("balances")
                .aggregate::<Account>()
                .partitions(2)
                .on_failure(OnFailure::Park),
            Transactional(Balances),
        )
        .spawn()
        .await?;

    let mut last = 0;
    for id in ["ada", "bob", "eve"] {
        let mut account = store.load_or_default::<Account>(id).await?;
        account.record(AccountEvent::Deposited { cents: 500 });
        account.record(AccountEvent::Withdrawn { cents: 180 });
        last = store.save(&mut account).await?.position.unwrap_or(last);
    }
    store
        .wait_for("balances", last, Duration::from_secs(10))
        .await?;

    for id in ["ada", "bob", "eve"] {
        let cents: i64 = sql
            .query_one("SELECT cents FROM balances WHERE id = $1", &[&id])
            .await?
            .get(0);
        println!("{id} has {cents} cents");
        assert_eq!(
            cents,
            store.load::<Account>(id).await?.state().cents,
            "the read model tells what the log tells"
        );
    }
    for partition in store.subscription_status("balances").await? {
        println!(
            "partition {}: handled up to {}",
            partition.partition, partition.checkpoint
        );
    }
    runner.shutdown().await?;
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
