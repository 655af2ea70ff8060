//! Time-ordered event ids, and who is calling.
#![allow(unsafe_code)]

use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn new_event_id() -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// The role outside of all SECURITY DEFINER functions: the session's, or that of SET ROLE.
#[pg_extern(sql = false)]
fn caller() -> pg_sys::Oid {
    // SAFETY: a plain value of this backend.
    unsafe { pg_sys::GetOuterUserId() }
}
