//! Progress and lag in numbers, through the `metrics` facade: whatever recorder the application installs gets them.

use std::time::SystemTime;

use crate::event::RecordedEvent;

/// Counter: events handled (or passed over), by `subscription`.
pub const EVENTS: &str = "mire_projection_events_total";
/// Counter: failed attempts, by `subscription`.
pub const FAILURES: &str = "mire_projection_failures_total";
/// Counter: events parked, by `subscription`.
pub const PARKED: &str = "mire_projection_parked_total";
/// Gauge: how many positions the feed is ahead, by `subscription` and `partition`; 0 when caught up, and when this process
/// does not hold the partition any more. Positions are not dense, so it is an upper bound of the events to come.
pub const LAG: &str = "mire_projection_lag_positions";
/// Histogram, in seconds: from an event's recording (by the database's clock) until it was handled (by this process's), by
/// `subscription`.
pub const LATENCY: &str = "mire_projection_latency_seconds";
/// Gauge: partitions that this process holds, by `subscription`.
pub const HELD: &str = "mire_projection_partitions";

pub(crate) fn handled(subscription: &str, events: &[RecordedEvent]) {
    let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
    metrics::counter!(EVENTS, "subscription" => subscription.to_owned()).increment(count);
    if let Some(last) = events.last() {
        let age = SystemTime::now()
            .duration_since(last.recorded_at)
            .unwrap_or_default();
        metrics::histogram!(LATENCY, "subscription" => subscription.to_owned())
            .record(age.as_secs_f64());
    }
}

pub(crate) fn failed(subscription: &str) {
    metrics::counter!(FAILURES, "subscription" => subscription.to_owned()).increment(1);
}

pub(crate) fn parked(subscription: &str) {
    metrics::counter!(PARKED, "subscription" => subscription.to_owned()).increment(1);
}

pub(crate) fn lag(subscription: &str, partition: i32, positions: i64) {
    #[allow(clippy::cast_precision_loss)] // a gauge
    let positions = positions.max(0) as f64;
    metrics::gauge!(LAG, "subscription" => subscription.to_owned(), "partition" => partition.to_string()).set(positions);
}

pub(crate) fn held(subscription: &str, partitions: usize) {
    #[allow(clippy::cast_precision_loss)] // a gauge
    let partitions = partitions as f64;
    metrics::gauge!(HELD, "subscription" => subscription.to_owned()).set(partitions);
}
