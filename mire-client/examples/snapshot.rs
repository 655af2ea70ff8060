//! Snapshots: a long stream loads in one round trip, from its newest snapshot and the few events after it.
//!
//! `cargo run -p mire-client --example snapshot`

use std::time::Instant;

use mire_client::{Aggregate, BoxError, EventData, EventStore, Snapshot, testing};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "meter")]
enum MeterEvent {
    Read { kwh: u64 },
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Meter {
    readings: u64,
    kwh: u64,
}

impl Aggregate for Meter {
    type Event = MeterEvent;
    const CATEGORY: &'static str = "meter";

    fn apply(&mut self, event: &MeterEvent) {
        match event {
            MeterEvent::Read { kwh } => {
                self.readings += 1;
                self.kwh += kwh;
            }
        }
    }
}

impl Snapshot for Meter {
    // Raise it when the struct or `apply` changes: older snapshots are not looked at any more.
    const SCHEMA_VERSION: i32 = 1;
    const EVERY: i64 = 500;
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;

    let id = uuid::Uuid::now_v7();
    let mut meter = store.load_or_default_snapshotted::<Meter>(id).await?;
    for day in 0..20 {
        meter.record_many((0..110).map(|n| MeterEvent::Read { kwh: day + n }));
        store.save_snapshotted(&mut meter).await?;
    }

    let started = Instant::now();
    let folded = store.load::<Meter>(id).await?;
    let folding = started.elapsed();
    let started = Instant::now();
    let restored = store.load_snapshotted::<Meter>(id).await?;
    println!(
        "{} events: folded in {folding:.1?}, from a snapshot in {:.1?}",
        folded.version(),
        started.elapsed()
    );
    assert_eq!(folded.state(), restored.state());
    assert_eq!(folded.version(), restored.version());
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
