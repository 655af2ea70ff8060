//! The numbers that a runner exports through the `metrics` facade are what they are said to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mire_client::{
    BoxError, ExpectedVersion, Handler, Incoming, OnFailure, Plain, Raw, Subscription, measure,
};

use super::common::{fixture, note};
use super::numbers::Numbers;
use super::read_models::{caught_up, runner, start, until};

/// Cannot stand `note-bad` for as long as it is told so.
struct Picky(Arc<AtomicBool>);

impl Handler for Picky {
    type Event = Raw;

    async fn handle(&self, event: &Incoming<'_, Raw>) -> Result<(), BoxError> {
        if event.recorded.stream == "note-bad" && self.0.load(Ordering::SeqCst) {
            return Err("cannot stand it".into());
        }
        Ok(())
    }
}

const OURS: &str = "subscription=notes";

/// On one thread, because the recorder is this thread's and no other test's.
#[tokio::test]
async fn a_runner_exports_the_numbers_it_documents() {
    let numbers = Numbers::default();
    let _ours = metrics::set_default_local_recorder(&numbers);
    let f = fixture().await;
    let append = async |stream: &str, n: usize| {
        for n in 0..n {
            let appended = f.store.append(stream, ExpectedVersion::Any, [note(n)]);
            appended.await.unwrap();
        }
    };
    let lags = || [0, 1].map(|p| numbers.gauge(measure::LAG, &format!("{OURS},partition={p}")));
    let began = Instant::now();
    append("note-good", 5).await;
    append("note-bad", 2).await;

    let picky = Arc::new(AtomicBool::new(true));
    let definition = Subscription::new("notes")
        .partitions(2)
        .on_failure(OnFailure::Park);
    let runner = start(runner(&f.store).subscribe(definition, Plain(Picky(picky.clone())))).await;
    caught_up(&f.store, "notes").await;
    until("nothing is behind", async || lags() == [0.0, 0.0]).await;
    assert_eq!(numbers.counted(measure::EVENTS, OURS), 5, "the good ones");
    assert_eq!(numbers.counted(measure::FAILURES, OURS), 2, "both attempts");
    assert_eq!(numbers.counted(measure::PARKED, OURS), 1);
    assert_eq!(
        numbers.gauge(measure::HELD, OURS).to_bits(),
        2_f64.to_bits()
    );

    picky.store(false, Ordering::SeqCst);
    f.store.retry_parked("notes", "note-bad").await.unwrap();
    until("the parked ones are handled", async || {
        numbers.counted(measure::EVENTS, OURS) == 7
    })
    .await;
    assert_eq!(numbers.counted(measure::FAILURES, OURS), 2);
    let latencies = numbers.values(measure::LATENCY, OURS);
    let most = (began.elapsed() + Duration::from_millis(1)).as_secs_f64();
    assert!(
        latencies.len() == 7,
        "a plain handler's events one by one: {latencies:?}"
    );
    assert!(
        latencies.iter().all(|took| (0.0..=most).contains(took)),
        "{latencies:?}"
    );
    assert!(
        latencies[5] > latencies[0],
        "these had to wait: {latencies:?}"
    );

    // Three positions that nobody hands out.
    f.store.pause_subscription("notes").await.unwrap();
    // They know at their next recheck; before, a fetch tells.
    append("note-good", 3).await;
    until("both are behind", async || lags() == [3.0, 3.0]).await;
    f.store.resume_subscription("notes").await.unwrap();
    caught_up(&f.store, "notes").await;
    until("nothing is behind", async || lags() == [0.0, 0.0]).await;
    assert_eq!(numbers.counted(measure::EVENTS, OURS), 10);

    // What a process has given back it holds no more, and is not behind with either.
    f.store.pause_subscription("notes").await.unwrap();
    append("note-good", 1).await;
    until("both are behind", async || lags() == [1.0, 1.0]).await;
    runner.shutdown().await.unwrap();
    assert_eq!(
        numbers.gauge(measure::HELD, OURS).to_bits(),
        0_f64.to_bits()
    );
    assert_eq!(lags(), [0.0, 0.0]);
}
