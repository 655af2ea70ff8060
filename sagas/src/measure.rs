//! What happens in numbers, through the `metrics` facade: whatever recorder the application installs gets them.

use std::time::Instant;

/// Counter: instances taken up by a worker, by `saga`.
pub const CLAIMED: &str = "mire_saga_claimed_total";
/// Counter: commits of instances, by `saga`.
pub const COMMITTED: &str = "mire_saga_commits_total";
/// Counter: drives that failed, by `saga`.
pub const FAILURES: &str = "mire_saga_failures_total";
/// Counter: instances parked because their drives failed, by `saga`.
pub const PARKED: &str = "mire_saga_parked_total";
/// Counter: leases lost while their instances were in hand, by `saga`.
pub const LOST: &str = "mire_saga_leases_lost_total";
/// Histogram, in seconds: how long effects took, by `saga` and `outcome` (`ok` or `failed`).
pub const EFFECTS: &str = "mire_saga_effect_seconds";
/// Gauge: instances in hand, by `holder`.
pub const HELD: &str = "mire_saga_instances_held";
/// Gauge: open instances whose topology version this worker does not know, by `saga` and `version`.
pub const STRANDED: &str = "mire_saga_instances_stranded";
/// Counter: messages of the outbox, by `outcome` (`sent`, `retry` or `dead`).
pub const MESSAGES: &str = "mire_saga_outbox_messages_total";

pub(crate) fn claimed(saga: &str) {
    metrics::counter!(CLAIMED, "saga" => saga.to_owned()).increment(1);
}

pub(crate) fn committed(saga: &str) {
    metrics::counter!(COMMITTED, "saga" => saga.to_owned()).increment(1);
}

pub(crate) fn failed(saga: &str, parked: bool) {
    metrics::counter!(FAILURES, "saga" => saga.to_owned()).increment(1);
    if parked {
        metrics::counter!(PARKED, "saga" => saga.to_owned()).increment(1);
    }
}

pub(crate) fn lost(saga: &str) {
    metrics::counter!(LOST, "saga" => saga.to_owned()).increment(1);
}

pub(crate) fn held(holder: &str, instances: usize) {
    #[allow(clippy::cast_precision_loss)] // a gauge
    let instances = instances as f64;
    metrics::gauge!(HELD, "holder" => holder.to_owned()).set(instances);
}

pub(crate) fn stranded(saga: &str, version: i32, instances: i64) {
    #[allow(clippy::cast_precision_loss)] // a gauge
    let instances = instances as f64;
    metrics::gauge!(STRANDED, "saga" => saga.to_owned(), "version" => version.to_string())
        .set(instances);
}

pub(crate) fn message(outcome: &'static str) {
    metrics::counter!(MESSAGES, "outcome" => outcome).increment(1);
}

/// An effect under way.
pub(crate) struct EffectTiming {
    saga: &'static str,
    begun: Instant,
}

impl EffectTiming {
    pub(crate) fn begin(saga: &'static str) -> Self {
        Self {
            saga,
            begun: Instant::now(),
        }
    }

    pub(crate) fn end(self, ok: bool) {
        let outcome = if ok { "ok" } else { "failed" };
        metrics::histogram!(EFFECTS, "saga" => self.saga, "outcome" => outcome)
            .record(self.begun.elapsed().as_secs_f64());
    }
}
