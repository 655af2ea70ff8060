//! A read model is rebuilt while the old one serves: the switch loses nothing, doubles nothing, and nobody sees less than
//! before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mire_client::{
    Batch, BatchHandler, BoxError, ExpectedVersion, Incoming, ProjectionRunner,
    ProjectionRunnerBuilder, Raw, Rebuild, Subscription, Transaction,
};

use super::common::{Fixture, fixture, note};
use super::read_models::caught_up;

/// Counts events by stream into a table of this name.
struct Counts(&'static str);

impl BatchHandler for Counts {
    type Event = Raw;

    async fn handle(
        &self,
        events: &[Incoming<'_, Raw>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let streams: Vec<&str> = events.iter().map(|e| e.recorded.stream.as_str()).collect();
        let sql = format!(
            "INSERT INTO {0} SELECT s, count(*) FROM unnest($1::text[]) AS s GROUP BY s ORDER BY s
             ON CONFLICT (stream) DO UPDATE SET events = {0}.events + excluded.events",
            self.0
        );
        tx.sql().execute(&sql, &[&streams]).await?;
        Ok(())
    }
}

fn version(f: &Fixture, name: &'static str) -> ProjectionRunnerBuilder {
    ProjectionRunner::builder(f.store.clone()).subscribe(
        Subscription::new(name).categories(["note"]).partitions(2),
        Batch(Counts(name)),
    )
}

async fn tables(f: &Fixture, events: i64) {
    let sql = "CREATE TABLE counts_1 (stream text PRIMARY KEY, events bigint);
        CREATE TABLE counts_2 (LIKE counts_1 INCLUDING ALL);
        CREATE VIEW counts AS SELECT * FROM counts_1";
    f.session().await.batch_execute(sql).await.unwrap();
    let sql = "SELECT count(*) FROM generate_series(1, $1::bigint / 1000) AS batch,
        LATERAL mire.append_events('note-old' || batch % 100, array_fill('note.taken'::text, ARRAY[1000]),
          array_fill('{}'::jsonb, ARRAY[1000]), NULL, NULL, NULL)";
    f.session().await.query(sql, &[&events]).await.unwrap();
}

const SWITCH: &str = "CREATE OR REPLACE VIEW counts AS SELECT * FROM counts_2";

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_writes_loses_and_doubles_nothing_and_readers_never_see_less() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let events = if long { 1_000_000 } else { 10_000 };
    let f = Arc::new(fixture().await);
    tables(&f, events).await;
    let old = version(&f, "counts_1").spawn().await.unwrap();
    let now = f.store.safe_position().await.unwrap();
    f.store
        .wait_for("counts_1", now, Duration::from_secs(300))
        .await
        .unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let (g, stop) = (f.clone(), done.clone());
    let writes = tokio::spawn(async move {
        let mut n = 0;
        while !stop.load(Ordering::SeqCst) {
            let stream = format!("note-{}", n % 10);
            g.store
                .append(stream, ExpectedVersion::Any, [note(n)])
                .await
                .unwrap();
            n += 1;
        }
        n
    });
    let (g, stop) = (f.clone(), done.clone());
    let reads = tokio::spawn(async move {
        let session = g.session().await;
        let mut seen = 0;
        while !stop.load(Ordering::SeqCst) {
            let sum: i64 = session
                .query_one("SELECT coalesce(sum(events), 0)::bigint FROM counts", &[])
                .await
                .unwrap()
                .get(0);
            assert!(sum >= seen, "{sum} after {seen}");
            seen = sum;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });

    let began = Instant::now();
    let rebuild = Rebuild::start(
        f.store.clone(),
        version(&f, "counts_2"),
        "counts_1",
        "counts_2",
    )
    .await
    .unwrap();
    while rebuild.progress().await.unwrap().events_behind > 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (near, switching) = (began.elapsed(), Instant::now());
    let new = rebuild
        .switch(SWITCH, Duration::from_secs(60))
        .await
        .unwrap();
    let switched = switching.elapsed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    done.store(true, Ordering::SeqCst);
    let written = writes.await.unwrap();
    reads.await.unwrap();
    println!(
        "{events} events rebuilt in {near:.1?}, switched in {switched:.1?}, {written} written meanwhile"
    );

    caught_up(&f.store, "counts_2").await;
    let counted = f.number("SELECT sum(events)::bigint FROM counts").await;
    assert_eq!(counted, f.number("SELECT count(*) FROM mire.events").await);
    assert!(
        f.store
            .subscription_status("counts_1")
            .await
            .unwrap()
            .is_empty()
    );
    old.shutdown().await.unwrap();
    new.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_fails_changes_nothing() {
    let f = fixture().await;
    tables(&f, 1_000).await;
    let old = version(&f, "counts_1").spawn().await.unwrap();
    caught_up(&f.store, "counts_1").await;
    let again = || {
        Rebuild::start(
            f.store.clone(),
            version(&f, "counts_2"),
            "counts_1",
            "counts_2",
        )
    };

    let rebuild = again().await.unwrap();
    caught_up(&f.store, "counts_2").await;
    let error = rebuild
        .switch(
            "CREATE OR REPLACE VIEW counts AS SELECT 1 / 0",
            Duration::from_secs(10),
        )
        .await;
    assert!(error.is_err());

    // The new version stands still, and the old one is ahead of it.
    f.store.pause_subscription("counts_2").await.unwrap();
    f.store
        .append("note-more", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    caught_up(&f.store, "counts_1").await;
    let error = again()
        .await
        .unwrap()
        .switch(SWITCH, Duration::from_millis(300))
        .await
        .unwrap_err();
    assert!(error.is_behind(), "{error}");

    f.store
        .append("note-more", ExpectedVersion::Any, [note(2)])
        .await
        .unwrap();
    caught_up(&f.store, "counts_1").await;
    assert_eq!(
        f.number("SELECT sum(events)::bigint FROM counts").await,
        1_002,
        "the old one serves"
    );
    again().await.unwrap().abandon().await.unwrap();
    assert!(
        f.store
            .subscription_status("counts_2")
            .await
            .unwrap()
            .is_empty()
    );
    old.shutdown().await.unwrap();
}
