//! What happens when a handler fails: again, after a while, and in the end one of two things.

use std::time::Duration;

/// How often, and after which pauses, an event is given to a failing handler again. Lost connections and lost leases are
/// not the handler's fault and do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    attempts: u32,
    first: Duration,
    longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryPolicy {
    /// Five attempts; 100 ms before the second, twice as long before each further one, at most 10 s.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(10),
        }
    }

    /// One attempt.
    pub fn none() -> Self {
        Self::new().attempts(1)
    }

    /// How many attempts in all, at least one.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The pause before the second attempt. Each further pause is twice as long.
    pub fn first_pause(mut self, pause: Duration) -> Self {
        self.first = pause;
        self
    }

    /// No pause is longer than this.
    pub fn longest_pause(mut self, pause: Duration) -> Self {
        self.longest = pause;
        self
    }

    /// The pause after so many failed attempts; None when it is time to give up.
    pub(crate) fn pause_after(&self, failed: u32) -> Option<Duration> {
        (failed < self.attempts)
            .then(|| doubled(self.first, failed.saturating_sub(1), self.longest))
    }
}

/// A pause that has been doubled so many times, up to the longest.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(20)).min(longest)
}

/// What happens to an event that its handler cannot handle, when all attempts have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The subscription is paused, in all processes, until an operator resumes it
    /// ([`EventStore::resume_subscription`](crate::EventStore::resume_subscription)); then the event is tried again.
    #[default]
    Stop,
    /// The event is put aside and the later events of its stream are held back, so that their order is kept. All other
    /// streams go on. An operator has the event retried or skipped
    /// ([`EventStore::retry_parked`](crate::EventStore::retry_parked), [`EventStore::skip_parked`](crate::EventStore::skip_parked)).
    Park,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_attempts() {
        let policy = RetryPolicy::new()
            .attempts(4)
            .first_pause(Duration::from_secs(1))
            .longest_pause(Duration::from_secs(3));
        let pauses: Vec<_> = (1..=5).map(|failed| policy.pause_after(failed)).collect();
        assert_eq!(
            pauses,
            [Some(1), Some(2), Some(3), None, None].map(|s| s.map(Duration::from_secs))
        );
        assert_eq!(RetryPolicy::none().pause_after(1), None);
        assert_eq!(
            RetryPolicy::new().attempts(u32::MAX).pause_after(4_000_000),
            Some(Duration::from_secs(10))
        );
    }
}
