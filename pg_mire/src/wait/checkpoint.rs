//! `CALL mire.wait_for_checkpoint(name, position, timeout, stream, …)`: until a subscription has handled a position.
// `pub`: Postgres finds both functions by their symbols.
#![allow(unsafe_code, unreachable_pub)]

use pgrx::prelude::*;

use super::procedure;
use super::sleep::{self, Look};

procedure::declare!(pg_finfo_wait_for_checkpoint_wrapper);

/// The procedure itself; the SQL declaration is sql/subscriptions/wait_for_checkpoint.sql.
///
/// # Safety
/// Called by Postgres with its five declared arguments.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn wait_for_checkpoint_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres's, with (text, bigint, interval, text, INOUT bigint). The texts are passed on as they are;
    // they live as long as the CALL, across its commits.
    unsafe {
        let position = procedure::position(fcinfo, 1, "position must be 0 or more");
        let timeout = procedure::timeout(fcinfo, 2);
        let text = |number: usize| {
            let argument = (*fcinfo).args.as_slice((*fcinfo).nargs as usize)[number];
            (!argument.isnull).then_some(argument.value)
        };
        let arguments = [text(0), text(3)];
        procedure::refuse_in_transaction_block(fcinfo);
        let reached = procedure::connected(|| {
            let checkpoint = || {
                procedure::query_bigint(c"SELECT mire.subscription_checkpoint($1, $2)", arguments)
            };
            // The first look raises 42704 for an unknown subscription, and 42501 when the caller may not ask.
            sleep::until(timeout, || {
                let reached = checkpoint() >= position;
                procedure::end_callers_snapshot();
                if reached { Look::Found } else { Look::Quiet }
            });
            checkpoint()
        });
        procedure::result(fcinfo, [reached])
    }
}
