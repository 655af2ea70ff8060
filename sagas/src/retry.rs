//! [`RetryPolicy`]: how often and how soon an effect is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::effect::EffectError;

type Wanted = Arc<dyn Fn(&EffectError) -> bool + Send + Sync>;

/// How often and how soon an effect is tried again. The waits are durable: a retry survives the worker.
#[derive(Clone)]
#[must_use]
pub struct RetryPolicy {
    attempts: u32,
    first: Duration,
    longest: Duration,
    jitter: bool,
    wanted: Option<Wanted>,
}

impl Default for RetryPolicy {
    /// Ten attempts, 100 ms to 1 minute apart, with jitter.
    fn default() -> Self {
        Self {
            attempts: 10,
            first: Duration::from_millis(100),
            longest: Duration::from_secs(60),
            jitter: true,
            wanted: None,
        }
    }
}

impl RetryPolicy {
    /// One attempt.
    pub fn never() -> Self {
        Self::default().attempts(1)
    }

    /// At most this many attempts, the first included; 0 means 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// The wait after the first failure; it doubles from attempt to attempt, up to `longest`.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest.max(first);
        self
    }

    /// Without jitter every wait is exact; with it (the default) a wait is between half and the whole.
    pub fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// Only errors of which this is true are tried again.
    pub fn only_if(
        mut self,
        wanted: impl Fn(&EffectError) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.wanted = Some(Arc::new(wanted));
        self
    }

    /// How long to wait after the failure of this attempt (from 1); None: give up.
    pub(crate) fn wait_after(&self, attempt: u32, error: &EffectError) -> Option<Duration> {
        if error.is_permanent()
            || attempt >= self.attempts
            || self.wanted.as_ref().is_some_and(|wanted| !wanted(error))
        {
            return None;
        }
        let doubled = self
            .first
            .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        let whole = doubled.min(self.longest);
        Some(if self.jitter {
            whole.mul_f64(rand::random_range(0.5..=1.0))
        } else {
            whole
        })
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("attempts", &self.attempts)
            .field("first", &self.first)
            .field("longest", &self.longest)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}
