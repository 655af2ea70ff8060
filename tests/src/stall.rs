//! Stalls processes of the server at random instants: a race that needs a pause between two instructions gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use crate::session::connect;

/// Half of the time somebody who reads the feed is chosen, otherwise anybody in this database.
const VICTIM: &str = "SELECT pid FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()
                         AND backend_type = 'client backend' AND (query LIKE '%read_all%' OR NOT $1)
                       ORDER BY random() LIMIT 1";

/// Stops backends of a database for some milliseconds each, one at a time, until it is dropped.
#[derive(Debug)]
pub struct Stalls {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Stalls {
    /// Begins.
    #[must_use]
    pub fn begin(url: &str, seed: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut client = connect(url);
        let thread = std::thread::spawn({
            let over = over.clone();
            move || {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    let victim = client
                        .query_opt(VICTIM, &[&rng.random_bool(0.5)])
                        .ok()
                        .flatten();
                    if let Some(pid) = victim.and_then(|row| Pid::from_raw(row.get(0))) {
                        let stopped = kill_process(pid, Signal::STOP).is_ok();
                        std::thread::sleep(Duration::from_micros(rng.random_range(500..12_000)));
                        let _ = kill_process(pid, Signal::CONT);
                        count += u64::from(stopped);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                count
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }

    /// Ends; how often a process was stopped.
    #[must_use]
    pub fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.map_or(0, |thread| thread.join().unwrap_or(0))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        // The thread lets its last victim go on before it looks at this.
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
