//! Runs named steps one after the other, times them, and sums up.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::run::Counts;

/// What happened so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(String, Duration, bool)>,
    tests: Counts,
}

impl Report {
    /// Runs a step that is right or wrong as a whole; later steps run even if it fails.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        let ok = self.timed(name, work).is_some();
        self.tests.add(if ok {
            Counts {
                passed: 1,
                failed: 0,
            }
        } else {
            Counts {
                passed: 0,
                failed: 1,
            }
        });
        ok
    }

    /// Runs a step that counts tests by itself; not to come to a count is one failure.
    pub(crate) fn tests(&mut self, name: &str, work: impl FnOnce() -> Result<Counts>) {
        let counts = self.timed(name, work).unwrap_or(Counts {
            passed: 0,
            failed: 1,
        });
        if counts.failed > 0
            && let Some(step) = self.steps.last_mut()
        {
            step.2 = false;
        }
        self.tests.add(counts);
    }

    fn timed<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("\n==== {name}");
        let start = Instant::now();
        let result = work()
            .inspect_err(|error| println!("FAILED: {error:#}"))
            .ok();
        self.steps
            .push((name.to_owned(), start.elapsed(), result.is_some()));
        result
    }

    /// Prints the table and the closing line; true when nothing failed.
    pub(crate) fn close(self) -> bool {
        println!("\n{:<34} {:>8}", "step", "seconds");
        for (name, time, ok) in &self.steps {
            println!(
                "{name:<34} {:>8.1}{}",
                time.as_secs_f64(),
                if *ok { "" } else { "  FAILED" }
            );
        }
        let total: Duration = self.steps.iter().map(|step| step.1).sum();
        println!("{:<34} {:>8.1}\n", "all", total.as_secs_f64());
        println!("{} passed, {} failed", self.tests.passed, self.tests.failed);
        self.tests.failed == 0
    }
}
