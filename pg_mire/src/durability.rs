//! Promise 1: what was acknowledged is durable. `synchronous_commit = off` (and `local`, where a synchronous standby is
//! awaited) would acknowledge before that, so it is raised to `on` for the transaction.
//!
//! Raised at once, so that the user sees it, and once more right before commit, because what counts is the value then:
//! a later SET LOCAL, or the end of a function with a SET clause, may have lowered it again.
#![allow(unsafe_code)]

use std::cell::Cell;

use pgrx::prelude::*;

use crate::settings;

thread_local! {
    /// Whether this transaction has promised to be durable. A rolled-back savepoint does not take it back.
    static PROMISED: Cell<bool> = const { Cell::new(false) };
}

/// Installs the callback; called once when the library is loaded.
pub(crate) fn install() {
    // SAFETY: the callback lives as long as the library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(on_transaction_end), std::ptr::null_mut()) };
}

#[pg_extern(sql = false)]
pub(crate) fn make_durable() {
    if settings::async_commit_allowed() {
        return;
    }
    PROMISED.set(true);
    // SAFETY: sets a flag that Postgres resets at the start of each transaction.
    unsafe { pg_sys::ForceSyncCommit() };
    raise();
}

fn raise() {
    // SAFETY: a plain integer that only this thread writes.
    let level = unsafe { pg_sys::synchronous_commit };
    if level < pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_WRITE as i32 {
        settings::set_local(c"synchronous_commit", c"on");
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction_end(
    event: pg_sys::XactEvent::Type,
    _arg: *mut core::ffi::c_void,
) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT | pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE
            if PROMISED.get() =>
        {
            raise();
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT
        | pg_sys::XactEvent::XACT_EVENT_ABORT
        | pg_sys::XactEvent::XACT_EVENT_PREPARE => PROMISED.set(false),
        _ => {}
    }
}
