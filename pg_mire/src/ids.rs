//! Time-ordered event ids.

use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn new_event_id() -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}
