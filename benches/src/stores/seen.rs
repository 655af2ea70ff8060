//! [`Seen`]: what the handlers of projections have been given.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;

/// Counts, and says when the last one came.
#[derive(Debug)]
pub(crate) struct Seen {
    sum: watch::Sender<i64>,
    last: Mutex<Instant>,
}

impl Seen {
    pub(crate) fn nothing() -> Self {
        Self {
            sum: watch::Sender::new(0),
            last: Mutex::new(Instant::now()),
        }
    }

    /// A handler has been given entries that add up to this.
    pub(crate) fn add(&self, sum: i64) {
        *self.last.lock().expect("nobody panics in there") = Instant::now();
        self.sum.send_modify(|seen| *seen += sum);
    }

    pub(crate) fn sum(&self) -> i64 {
        *self.sum.borrow()
    }

    /// When the last one came.
    pub(crate) fn last(&self) -> Instant {
        *self.last.lock().expect("nobody panics in there")
    }

    /// Waits until what was given adds up to this.
    pub(crate) async fn reaches(&self, sum: i64, patience: Duration) -> Result<()> {
        let mut news = self.sum.subscribe();
        tokio::time::timeout(patience, news.wait_for(|seen| *seen >= sum))
            .await
            .with_context(|| {
                format!("handlers have seen {} of {sum} in {patience:?}", self.sum())
            })??;
        Ok(())
    }
}
