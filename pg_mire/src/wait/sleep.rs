//! Sleeping on the backend's latch between looks.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use pgrx::prelude::*;

/// How long to sleep between looks: short right after the call and when news is about to come, longer in a quiet store.
const BRISK: Duration = Duration::from_millis(1);
const CALM: Duration = Duration::from_millis(5);
const CALM_AFTER: Duration = Duration::from_secs(1);

/// What a look has found.
pub(super) enum Look {
    /// What was waited for.
    Found,
    /// Something is about to come.
    Near,
    /// Nothing.
    Quiet,
}

/// Looks again and again until something is found or the timeout has passed. No snapshot may be held: `look` takes and
/// drops its own.
pub(super) fn until(timeout: Duration, mut look: impl FnMut() -> Look) {
    let start = Instant::now();
    loop {
        let near = match look() {
            Look::Found => return,
            Look::Near => true,
            Look::Quiet => false,
        };
        let waited = start.elapsed();
        let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return;
        };
        let nap = if near || waited < CALM_AFTER {
            BRISK
        } else {
            CALM
        };
        // SAFETY: the backend's own latch. A dying postmaster ends the process inside WaitLatch; cancel and terminate
        // set the latch and are served by CHECK_FOR_INTERRUPTS. The catalog snapshot that opening a relation may have
        // taken is dropped first, or backend_xmin would stay set.
        unsafe {
            pg_sys::InvalidateCatalogSnapshot();
            pg_sys::WaitLatch(
                pg_sys::MyLatch,
                (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as _,
                nap.min(left).as_millis().max(1) as _,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        pgrx::check_for_interrupts!();
    }
}
