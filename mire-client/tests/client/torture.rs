//! Everything at once, against shared commits: contention, every expected version, dropped futures, poisoned events,
//! sitters, killed connections, two batchers. What callers were told must be what the log says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mire_client::{EventStore, ExpectedVersion, Json, NewEvent, Recorded};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::common::{Fixture, fixture, note, session};

const WRITERS: u64 = 40;
const STREAMS: u64 = 12;

/// An append, and what its caller was told.
struct Told {
    stream: String,
    ids: Vec<Uuid>,
    outcome: Outcome,
}

enum Outcome {
    Recorded(Recorded),
    Refused,
    Unknown,
}

struct Writer {
    store: EventStore,
    rng: StdRng,
    number: u64,
    own_version: i64,
    told: Vec<Told>,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Told> {
        while !stop.load(Ordering::SeqCst) {
            self.append().await;
        }
        self.told
    }

    async fn append(&mut self) {
        let on_own = self.rng.random_bool(0.3);
        let stream = match on_own {
            true => format!("own-{}", self.number),
            false => format!("shared-{}", self.rng.random_range(0..STREAMS)),
        };
        let expected = match self.rng.random_range(0..4) {
            _ if on_own => ExpectedVersion::Exactly(self.own_version),
            0 => ExpectedVersion::Exists,
            1 => match self.store.stream_version(&stream).await {
                Ok(version) => ExpectedVersion::Exactly(version),
                Err(_) => return,
            },
            _ => ExpectedVersion::Any,
        };
        let mut events: Vec<NewEvent> = (0..self.rng.random_range(1..5)).map(note).collect();
        if !on_own && self.rng.random_bool(0.01) {
            let poison = Json::from_text("1e400000").unwrap();
            events.push(NewEvent::untyped("note.taken", &poison).unwrap());
        }
        let ids: Vec<Uuid> = events.iter().map(NewEvent::id).collect();
        let count = i64::try_from(ids.len()).unwrap();
        let patience = match !on_own && self.rng.random_bool(0.1) {
            true => Duration::from_micros(self.rng.random_range(0..5_000)),
            false => Duration::from_secs(60),
        };
        let mut outcome = self.tell(&stream, expected, &events, patience).await;
        // Its own stream has no other writer: the same events are sent until their fate is known.
        while on_own && !matches!(outcome, Outcome::Recorded(_)) {
            assert!(!matches!(outcome, Outcome::Refused));
            outcome = self.tell(&stream, expected, &events, patience).await;
        }
        if on_own {
            self.own_version += count;
        }
        self.told.push(Told {
            stream,
            ids,
            outcome,
        });
    }

    async fn tell(
        &self,
        stream: &str,
        expected: ExpectedVersion,
        events: &[NewEvent],
        patience: Duration,
    ) -> Outcome {
        let append = self.store.append(stream, expected, events.to_vec());
        match tokio::time::timeout(patience, append).await {
            Ok(Ok(recorded)) => Outcome::Recorded(recorded),
            Ok(Err(error)) if error.is_outcome_unknown() => Outcome::Unknown,
            Ok(Err(error)) if error.is_retryable() && stream.starts_with("own") => Outcome::Unknown,
            Ok(Err(error)) => {
                assert!(
                    error.is_conflict()
                        || error.is_not_found()
                        || error.is_invalid()
                        || error.is_retryable(),
                    "{error:?}"
                );
                Outcome::Refused
            }
            Err(_) => Outcome::Unknown,
        }
    }
}

/// Opens transactions on streams, existing or new, and keeps them open for a while.
async fn sit(url: String, mut rng: StdRng, stop: Arc<AtomicBool>) {
    let session = session(&url).await;
    while !stop.load(Ordering::SeqCst) {
        let stream = match rng.random_bool(0.5) {
            true => format!("shared-{}", rng.random_range(0..STREAMS)),
            false => format!("sat-{}", Uuid::now_v7()),
        };
        session.batch_execute("BEGIN").await.unwrap();
        let append =
            "SELECT FROM mire.append($1, '[{\"type\": \"note.taken\", \"data\": {}}]'::jsonb)";
        session.execute(append, &[&stream]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..80))).await;
        let end = if rng.random_bool(0.5) {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        session.batch_execute(end).await.unwrap();
    }
}

async fn kill(url: String, stop: Arc<AtomicBool>, killed: Arc<AtomicUsize>) {
    let session = session(&url).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'mire-client' ORDER BY random() LIMIT 2";
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rows = session.query(kill, &[]).await.unwrap();
        killed.fetch_add(rows.len(), Ordering::SeqCst);
    }
}

/// The log: where each event id stands.
async fn the_log(f: &Fixture) -> HashMap<Uuid, (String, i64)> {
    let query = "SELECT e.event_id, s.stream, e.version FROM mire.events AS e JOIN mire.stream_heads AS s USING (stream_no) \
                 ORDER BY e.stream_no, e.version";
    let rows = f.session().await.query(query, &[]).await.unwrap();
    let mut log = HashMap::new();
    let mut versions: BTreeMap<String, i64> = BTreeMap::new();
    for row in &rows {
        let (id, stream, version): (Uuid, String, i64) = (row.get(0), row.get(1), row.get(2));
        let last = versions.entry(stream.clone()).or_default();
        assert_eq!(version, *last + 1, "a gap in {stream}");
        *last = version;
        assert!(
            log.insert(id, (stream, version)).is_none(),
            "{id} is stored twice"
        );
    }
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_were_told_is_what_the_log_says() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let seconds = if long { 90 } else { 10 };
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let f = fixture().await;
    let second = EventStore::builder().url(&f.database.url).build().unwrap();
    let (stop, killed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let store = if number % 2 == 0 {
                f.store.clone()
            } else {
                second.clone()
            };
            let rng = StdRng::seed_from_u64(seed ^ number);
            let writer = Writer {
                store,
                rng,
                number,
                own_version: 0,
                told: Vec::new(),
            };
            tokio::spawn(writer.run(stop.clone()))
        })
        .collect();
    let mut others = vec![tokio::spawn(kill(
        f.database.url.clone(),
        stop.clone(),
        killed.clone(),
    ))];
    for number in 0..3 {
        let rng = StdRng::seed_from_u64(!seed ^ number);
        others.push(tokio::spawn(sit(f.database.url.clone(), rng, stop.clone())));
    }
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
    let mut told = Vec::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    // What was in flight when its caller left may still be arriving.
    tokio::time::sleep(Duration::from_millis(500)).await;

    let log = the_log(&f).await;
    let (mut recorded, mut refused, mut unknown, mut landed) = (0, 0, 0, 0);
    for Told {
        stream,
        ids,
        outcome,
    } in &told
    {
        let stored: Vec<_> = ids.iter().filter_map(|id| log.get(id)).collect();
        assert!(
            stored.is_empty() || stored.len() == ids.len(),
            "half an append in {stream}"
        );
        assert!(stored.iter().all(|(in_stream, _)| in_stream == stream));
        assert!(
            stored.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1),
            "torn apart in {stream}"
        );
        match outcome {
            Outcome::Recorded(told) => {
                recorded += 1;
                assert!(
                    !stored.is_empty(),
                    "an acknowledged append to {stream} is lost"
                );
                assert!(
                    stored
                        .iter()
                        .map(|(_, version)| *version)
                        .eq(told.versions()),
                    "told wrong versions"
                );
            }
            Outcome::Refused => {
                refused += 1;
                assert!(stored.is_empty(), "a refused append to {stream} is stored");
            }
            Outcome::Unknown => {
                unknown += 1;
                landed += usize::from(!stored.is_empty());
            }
        }
    }
    let killed = killed.load(Ordering::SeqCst);
    println!(
        "{killed} killed; {recorded} recorded, {refused} refused, {unknown} unknown or dropped, {landed} of them landed"
    );
    assert!(killed > 20 && recorded > 500 && refused > 20 && unknown > 20);
}
