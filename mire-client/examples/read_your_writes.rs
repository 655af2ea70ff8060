//! Read your writes: a read model is a few milliseconds behind the log; who has just saved can wait for it.
//!
//! `cargo run -p mire-client --example read_your_writes`

use std::time::{Duration, Instant};

use mire_client::{
    Batch, BatchHandler, BoxError, EventStore, ExpectedVersion, Incoming, NewEvent,
    ProjectionRunner, Raw, Subscription, Transaction, testing,
};

/// Counts the notes of each stream, a page of events at a time.
struct Counts;

impl BatchHandler for Counts {
    type Event = Raw;

    async fn handle(
        &self,
        events: &[Incoming<'_, Raw>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let streams: Vec<&str> = events
            .iter()
            .map(|event| event.recorded.stream.as_str())
            .collect();
        let sql = "INSERT INTO note_counts SELECT s, count(*) FROM unnest($1::text[]) AS s GROUP BY s \
                   ON CONFLICT (stream) DO UPDATE SET notes = note_counts.notes + excluded.notes";
        tx.sql().execute(sql, &[&streams]).await?;
        Ok(())
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let sql = store.pool().get().await?;
    sql.batch_execute(
        "CREATE TABLE IF NOT EXISTS note_counts (stream text PRIMARY KEY, notes bigint NOT NULL)",
    )
    .await?;
    let runner = ProjectionRunner::builder(store.clone())
        .subscribe(
            Subscription::new("note_counts").categories(["note"]),
            Batch(Counts),
        )
        .spawn()
        .await?;

    for number in 1..=20 {
        let note = NewEvent::untyped("note.taken", &serde_json::json!({ "number": number }))?;
        let recorded = store
            .append("note-today", ExpectedVersion::Any, [note])
            .await?;
        let saved = Instant::now();
        store
            .wait_for("note_counts", &recorded, Duration::from_secs(10))
            .await?;
        let waited = saved.elapsed();
        let query = "SELECT notes FROM note_counts WHERE stream = 'note-today'";
        let notes: i64 = sql.query_one(query, &[]).await?.get(0);
        assert_eq!(notes, recorded.version, "what I have just written is there");
        if number % 5 == 0 {
            println!("note {number}: the read model had it {waited:.1?} after the commit");
        }
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
