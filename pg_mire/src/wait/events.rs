//! `CALL mire.wait_for_events(after, timeout, …)`: until the safe position exceeds `after`.
//!
//! Looks at the sequence's page, at the lock table when the head is beyond what is known, and at the log itself when
//! something new has settled. The safe position and not the sequence is waited for: after an aborted append at the tail,
//! or while one is open, the latter would spin.
// `pub`: Postgres finds both functions by their symbols.
#![allow(unsafe_code, unreachable_pub)]

use pgrx::prelude::*;

use super::procedure;
use super::sleep::{self, Look};
use crate::{in_flight, positions};

procedure::declare!(pg_finfo_wait_for_events_wrapper);

/// The procedure itself; the SQL declaration is sql/feed/wait_for_events.sql.
///
/// # Safety
/// Called by Postgres with its four declared arguments.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn wait_for_events_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres's, with (bigint, interval, INOUT bigint, INOUT bigint); the queries have no arguments.
    unsafe {
        let after = procedure::position(fcinfo, 0, "after must be 0 or more");
        let timeout = procedure::timeout(fcinfo, 1);
        procedure::refuse_in_transaction_block(fcinfo);
        let (safe, epoch) = procedure::connected(|| {
            let safe_position = || procedure::query_bigint(c"SELECT mire.safe_position()", []);
            // Raises MI007 where the feed cannot be read, and 42501 when the caller may not.
            safe_position();
            procedure::end_callers_snapshot();

            // Up to here everything is settled, and nothing of it beyond `after` is visible (an aborted append's hole).
            let mut looked = after;
            sleep::until(timeout, || {
                if positions::head() <= looked {
                    return Look::Quiet;
                }
                if in_flight::settled() > looked {
                    if safe_position() > after {
                        return Look::Found;
                    }
                    looked = in_flight::last_settled().max(looked);
                    procedure::end_callers_snapshot();
                }
                Look::Near
            });
            (
                safe_position(),
                procedure::query_bigint(c"SELECT epoch FROM mire.store_info()", []),
            )
        });
        procedure::result(fcinfo, [safe, epoch])
    }
}
