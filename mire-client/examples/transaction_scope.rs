//! A transfer: two aggregates and a table of the program's own change together or not at all.
//!
//! `cargo run -p mire-client --example transaction_scope`

use mire_client::{Aggregate, BoxError, EventData, EventStore, testing};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "wallet")]
enum WalletEvent {
    Received { cents: i64 },
    Sent { cents: i64 },
}

#[derive(Debug, Default)]
struct Wallet {
    cents: i64,
}

impl Aggregate for Wallet {
    type Event = WalletEvent;
    const CATEGORY: &'static str = "wallet";

    fn apply(&mut self, event: &WalletEvent) {
        match event {
            WalletEvent::Received { cents } => self.cents += cents,
            WalletEvent::Sent { cents } => self.cents -= cents,
        }
    }
}

async fn transfer(store: &EventStore, from: Uuid, to: Uuid, cents: i64) -> Result<bool, BoxError> {
    let mut tx = store.begin().await?;
    // Locked in the order of their ids, so that two transfers never wait for each other.
    let (mut sender, mut receiver);
    if from < to {
        sender = tx.load_locked::<Wallet>(from).await?;
        receiver = tx.load_locked::<Wallet>(to).await?;
    } else {
        receiver = tx.load_locked::<Wallet>(to).await?;
        sender = tx.load_locked::<Wallet>(from).await?;
    }
    sender.record(WalletEvent::Sent { cents });
    receiver.record(WalletEvent::Received { cents });
    tx.save(&mut sender).await?;
    tx.save(&mut receiver).await?;
    tx.sql()
        .execute(
            "INSERT INTO transfers (sender, receiver, cents) VALUES ($1, $2, $3)",
            &[&from, &to, &cents],
        )
        .await?;
    if sender.state().cents < 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    store
        .pool()
        .get()
        .await?
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS transfers (sender uuid, receiver uuid, cents bigint)",
        )
        .await?;

    let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
    for id in [ada, bob] {
        let mut wallet = store.load_or_default::<Wallet>(id).await?;
        wallet.record(WalletEvent::Received { cents: 100 });
        store.save(&mut wallet).await?;
    }

    println!(
        "70 cents go through: {}",
        transfer(&store, ada, bob, 70).await?
    );
    println!("70 more do not: {}", !transfer(&store, ada, bob, 70).await?);

    let (ada_has, bob_has) = (
        store.load::<Wallet>(ada).await?,
        store.load::<Wallet>(bob).await?,
    );
    println!(
        "Ada has {}, Bob has {}",
        ada_has.state().cents,
        bob_has.state().cents
    );
    assert_eq!((ada_has.state().cents, bob_has.state().cents), (30, 170));
    let rows = store
        .pool()
        .get()
        .await?
        .query("SELECT FROM transfers WHERE sender = $1", &[&ada])
        .await?;
    assert_eq!(rows.len(), 1, "the table tells the same story");
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
