//! Time-ordered event ids.

/// A UUIDv7. Those of one process grow.
pub(crate) fn time_ordered() -> [u8; 16] {
    uuid::Uuid::now_v7().into_bytes()
}
