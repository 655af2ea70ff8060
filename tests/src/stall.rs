//! Stops processes of the server at random instants: a race that needs a pause between two instructions gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use crate::session::connect;

/// Anybody who is at work in this database; half of the time somebody who reads the feed, if there is one.
const VICTIM: &str = "SELECT pid FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()
                         AND backend_type = 'client backend'
                       ORDER BY $1 AND query LIKE '%read_all%' DESC, state = 'active' DESC, random() LIMIT 1";

/// Stops one backend again and again, at whatever instruction it is: `meanwhile` runs while it is stopped, `after` once it
/// goes on. How often that was.
///
/// # Panics
/// When the backend is gone.
pub fn stop_again_and_again(
    backend: i32,
    time: Duration,
    mut meanwhile: impl FnMut(),
    mut after: impl FnMut(),
) -> u64 {
    let backend = Pid::from_raw(backend).unwrap();
    let end = Instant::now() + time;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        // It may have been stopped with a lock of the server's own in its hands, which `meanwhile` needs.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                let _ = kill_process(backend, Signal::CONT);
            }
        });
        let mut rounds = 0;
        let mut rng = StdRng::seed_from_u64(1);
        while Instant::now() < end {
            // `after` may have waited for the end of a call; not always at the same place in the next one.
            let stop = Instant::now() + Duration::from_micros(rng.random_range(0..2000));
            while Instant::now() < stop {
                std::hint::spin_loop();
            }
            kill_process(backend, Signal::STOP).unwrap();
            meanwhile();
            kill_process(backend, Signal::CONT).unwrap();
            after();
            rounds += 1;
        }
        rounds
    })
}

/// Tells other threads that this one is through, also when the test fails.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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
