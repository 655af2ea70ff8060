//! [`Snapshot`]: an aggregate whose state may be kept, so that loading need not fold everything. Disposable: the log is
//! the truth.

use serde::{Serialize, de::DeserializeOwned};

use super::Aggregate;

/// An aggregate that can be kept as a snapshot.
pub trait Snapshot: Aggregate + Serialize + DeserializeOwned {
    /// The version of the state's shape. Raise it whenever the shape *or the meaning of `apply`* changes: snapshots of
    /// other versions are not looked at, and two deployments with different versions do not disturb each other.
    const SCHEMA_VERSION: i32;

    /// After how many events a new snapshot is taken by [`save_snapshotted`](crate::EventStore::save_snapshotted).
    const EVERY: i64 = 100;
}

/// Whether going from one version to another passes a multiple of `every`.
pub(crate) fn is_due(from: i64, to: i64, every: i64) -> bool {
    every > 0 && from / every < to / every
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn a_snapshot_is_due_whenever_a_multiple_is_passed() {
        assert!(!is_due(0, 99, 100));
        assert!(is_due(99, 100, 100));
        assert!(is_due(99, 250, 100));
        assert!(!is_due(100, 199, 100));
        assert!(!is_due(0, 1000, 0));
    }
}
