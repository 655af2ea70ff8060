//! A load of writers that do everything that is awkward for a feed: early transaction ids, transactions over several
//! streams, savepoints kept and rolled back, rollbacks, prepared transactions, pauses between append and commit,
//! batches, functions that append several times, and a cursor over append that fails inside a savepoint.

mod scenarios;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use postgres::GenericClient;
use uuid::Uuid;

use writer::Writer;

/// The categories the load's streams are in.
pub const CATEGORIES: &[&str] = &["account", "booking", "cart", "device"];

/// An event that the server acknowledged as committed.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    stream: String,
    version: i64,
    id: Uuid,
    /// Known of the last event of each append only.
    position: Option<i64>,
}

/// What the load came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How often each scenario ran to its end.
    pub scenarios: BTreeMap<&'static str, u64>,
    /// Every event whose commit was acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// Transactions whose connection died before the answer came.
    pub unknown: u64,
    /// Transactions that the server refused for a deadlock or a serialization failure.
    pub refused: u64,
}

impl Outcome {
    /// How many transactions ran to their end.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.scenarios.values().sum()
    }

    /// Promise 1: every acknowledged event is there, unchanged.
    ///
    /// # Panics
    /// When one is not.
    #[track_caller]
    pub fn assert_kept(&self, superuser: &mut impl GenericClient) {
        let ids: Vec<Uuid> = self.acknowledged.iter().map(|event| event.id).collect();
        let streams: Vec<&str> = self
            .acknowledged
            .iter()
            .map(|event| event.stream.as_str())
            .collect();
        let versions: Vec<i64> = self
            .acknowledged
            .iter()
            .map(|event| event.version)
            .collect();
        let positions: Vec<Option<i64>> = self
            .acknowledged
            .iter()
            .map(|event| event.position)
            .collect();
        let lost: Vec<String> = superuser
            .query(
                "SELECT format('%s@%s', a.stream, a.version)
                   FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) AS a (id, stream, version, position)
                   LEFT JOIN mire.stream_heads AS s ON s.stream = a.stream
                   LEFT JOIN mire.events AS e
                     ON e.stream_no = s.stream_no AND e.version = a.version AND e.event_id = a.id
                    AND e.position = coalesce(a.position, e.position)
                  WHERE e.position IS NULL",
                &[&ids, &streams, &versions, &positions],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    }
}

/// Running writers.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    transactions: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Outcome>>,
}

impl Load {
    /// Starts so many writers. With `survives_crashes` a writer whose connection dies connects again; otherwise that
    /// is a failure of the test.
    ///
    /// # Panics
    /// When the database cannot be prepared for it.
    #[must_use]
    pub fn start(url: &str, writers: usize, seed: u64, survives_crashes: bool) -> Self {
        let mut client = crate::session::connect(url);
        client.batch_execute(scenarios::SETUP).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let transactions = Arc::new(AtomicU64::new(0));
        let writers = (0..writers)
            .map(|number| {
                let mut writer = Writer::new(url, number, seed, survives_crashes);
                let (stop, transactions) = (stop.clone(), transactions.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        writer.run_one();
                        transactions.fetch_add(1, Ordering::Relaxed);
                    }
                    writer.finish()
                })
            })
            .collect();
        Self {
            stop,
            transactions,
            writers,
        }
    }

    /// How many transactions have run so far, whatever became of them.
    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Lets every writer end its transaction and resolve what it has prepared.
    ///
    /// # Panics
    /// When a writer met something that it must not meet.
    #[must_use]
    pub fn stop(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Outcome::default();
        for writer in std::mem::take(&mut self.writers) {
            let outcome = writer.join().expect("a writer failed");
            for (scenario, count) in outcome.scenarios {
                *total.scenarios.entry(scenario).or_default() += count;
            }
            total.acknowledged.extend(outcome.acknowledged);
            total.unknown += outcome.unknown;
            total.refused += outcome.refused;
        }
        total
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that failed meanwhile does not wait for its writers.
        self.stop.store(true, Ordering::Relaxed);
    }
}
