//! Time-ordered event ids.

use pgrx::prelude::*;

/// A UUIDv7. Those of one process grow.
pub(crate) fn time_ordered() -> [u8; 16] {
    uuid::Uuid::now_v7().into_bytes()
}

#[pg_extern(sql = false)]
fn new_event_id() -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(time_ordered())
}
