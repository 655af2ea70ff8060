//! [`SharedCommits`]: the limits.

use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};

/// "For ever" must not overflow a clock.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How concurrent saves and appends share commits. The defaults are meant to be left alone.
#[derive(Clone, Debug)]
#[must_use]
pub struct SharedCommits {
    pub(crate) max_batch_events: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_queued_events: usize,
    pub(crate) max_queued_bytes: usize,
    pub(crate) max_alone: usize,
    pub(crate) busy_timeout: Duration,
    pub(crate) reconnect_timeout: Duration,
}

impl Default for SharedCommits {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedCommits {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            max_batch_events: 2_000,
            max_batch_bytes: 4 << 20,
            max_queued_events: 50_000,
            max_queued_bytes: 64 << 20,
            max_alone: 8,
            busy_timeout: Duration::from_secs(30),
            reconnect_timeout: Duration::from_secs(10),
        }
    }

    /// At most so many events in one commit: 2,000. Not above the server's `mire.max_events_per_call`. A larger append
    /// goes alone.
    pub fn max_batch_events(mut self, events: usize) -> Self {
        self.max_batch_events = events;
        self
    }

    /// At most so many bytes of JSON in one commit, roughly: 4 MiB. A larger append goes alone.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// When so many events wait for their turn, further calls wait before they queue: 50,000.
    pub fn max_queued_events(mut self, events: usize) -> Self {
        self.max_queued_events = events.min(Semaphore::MAX_PERMITS);
        self
    }

    /// When so many bytes of JSON wait for their turn, further calls wait before they queue: 64 MiB.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// At most so many busy streams are waited for at the same time, each on a connection of its own: 8. More of them
    /// take turns.
    pub fn max_alone(mut self, streams: usize) -> Self {
        self.max_alone = streams;
        self
    }

    /// An append whose stream is held by another transaction for longer fails with
    /// [`is_busy`](crate::Error::is_busy): 30 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(FOR_EVER);
        self
    }

    /// When the database cannot be reached for longer, waiting appends fail: 10 s. Even with less, one try takes up to a
    /// second.
    pub fn reconnect_timeout(mut self, timeout: Duration) -> Self {
        self.reconnect_timeout = timeout.min(FOR_EVER);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let zero = [
            ("max_batch_events", self.max_batch_events),
            ("max_batch_bytes", self.max_batch_bytes),
            ("max_queued_events", self.max_queued_events),
            ("max_queued_bytes, in KiB,", self.max_queued_bytes / 1024),
            ("max_alone", self.max_alone),
        ]
        .into_iter()
        .find(|(_, value)| *value == 0);
        match zero {
            Some((name, _)) => Err(Error::new(ErrorKind::Config {
                reason: format!("{name} must be above 0"),
            })),
            None => Ok(()),
        }
    }
}
