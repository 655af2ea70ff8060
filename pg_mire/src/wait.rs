//! `CALL mire.wait_for_events(after, timeout, …)`: waits on the backend's latch until the safe position exceeds
//! `after`, and holds no snapshot meanwhile, so that vacuum is not held back however long it sleeps.
//!
//! A procedure outside of a transaction block may commit: that ends the caller's snapshot. From then on only the
//! sequence's page and the lock table are read, which need none. Nobody notifies anybody: the sequence's page is
//! looked at every few milliseconds, the lock table only when the head is beyond what is known, and the log itself, with
//! a snapshot that lasts for that one query, only when something new has settled.
// `pub`: Postgres finds both functions by their symbols.
#![allow(unsafe_code, unreachable_pub)]

use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::{in_flight, positions};

/// How long to sleep between looks: short right after news or while an append is open, longer in a quiet store.
const BRISK: Duration = Duration::from_millis(1);
const CALM: Duration = Duration::from_millis(5);
const CALM_AFTER: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C" fn pg_finfo_wait_for_events_wrapper() -> *const pg_sys::Pg_finfo_record {
    static V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &raw const V1
}

/// The procedure itself; the SQL declaration is sql/feed/wait_for_events.sql.
///
/// # Safety
/// Called by Postgres with its four declared arguments.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn wait_for_events_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres's, with four arguments of the declared types.
    let (after, timeout) = unsafe { arguments(fcinfo) };
    // SAFETY: as above.
    unsafe { refuse_in_transaction_block(fcinfo) };

    // SAFETY: SPI is connected before and finished after; SPI_commit is allowed in a nonatomic context, which was
    // checked above. After it no snapshot is held; each query takes its own and drops it.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as _);
        // Raises MI007 where the feed cannot be read, and checks that the caller may read it at all.
        query_bigint(c"SELECT mire.safe_position()");
        pg_sys::SPI_commit();
        wait(after, timeout);
        let safe = query_bigint(c"SELECT mire.safe_position()");
        let epoch = query_bigint(c"SELECT epoch FROM mire.store_info()");
        pg_sys::SPI_finish();
        result(fcinfo, safe, epoch)
    }
}

/// # Safety
/// `fcinfo` is that of wait_for_events.
unsafe fn arguments(fcinfo: pg_sys::FunctionCallInfo) -> (i64, Duration) {
    // SAFETY: the first argument is a bigint, the second an interval, either may be NULL.
    let (after, interval) = unsafe {
        (
            pgrx::pg_getarg::<i64>(fcinfo, 0),
            pgrx::pg_getarg::<pgrx::datum::Interval>(fcinfo, 1),
        )
    };
    let Some(after) = after.filter(|position| *position >= 0) else {
        out_of_range("after must be 0 or more")
    };
    let timeout = interval.and_then(|interval| {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let days = i64::from(interval.months()) * 30 + i64::from(interval.days());
        let micros = days.checked_mul(DAY)?.checked_add(interval.micros())?;
        u64::try_from(micros)
            .ok()
            .map(Duration::from_micros)
            .filter(|timeout| *timeout <= LONGEST)
    });
    (
        after,
        timeout.unwrap_or_else(|| out_of_range("timeout must be from 0 to 1 day")),
    )
}

fn out_of_range(message: &'static str) -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        message,
        "Nothing was changed. Call again with a value in that range.",
    )
}

fn raise(code: PgSqlErrorCode, message: &'static str, hint: &'static str) -> ! {
    ErrorReport::new(code, message, "wait_for_events")
        .set_hint(hint)
        .report(PgLogLevel::ERROR);
    unreachable!("an error was reported")
}

/// # Safety
/// `fcinfo` is Postgres's.
unsafe fn refuse_in_transaction_block(fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: for CALL, context is a CallContext node; otherwise it is another node or NULL.
    let atomic = unsafe {
        let context = (*fcinfo).context;
        context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_CallContext
            || (*context.cast::<pg_sys::CallContext>()).atomic
    };
    if atomic {
        raise(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "wait_for_events cannot run inside a transaction block or a function",
            "CALL it by itself with autocommit on: a snapshot held while waiting would hold vacuum back.",
        );
    }
}

/// Returns when an event beyond `after` can be read, or the timeout has passed.
///
/// # Safety
/// SPI is connected, and no snapshot is held.
unsafe fn wait(after: i64, timeout: Duration) {
    let start = Instant::now();
    // Everything up to here is settled, and nothing of it beyond `after` is visible (an aborted append left a hole).
    let mut looked = after;
    loop {
        let head_is_beyond = positions::head() > looked;
        if head_is_beyond && in_flight::settled() > looked {
            // SAFETY: the caller's promise. The query's snapshot is gone when it returns.
            if unsafe { query_bigint(c"SELECT mire.safe_position()") } > after {
                return;
            }
            looked = in_flight::last_settled().max(looked);
        }
        let waited = start.elapsed();
        let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
            return;
        };
        let nap = if head_is_beyond || waited < CALM_AFTER {
            BRISK
        } else {
            CALM
        };
        // SAFETY: the backend's own latch. A dying postmaster ends the process inside WaitLatch; cancel and terminate
        // set the latch and are served by CHECK_FOR_INTERRUPTS. The catalog snapshot that opening the sequence may
        // have taken is dropped first, or backend_xmin would stay set.
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

// Not pgrx's binding: it catches errors and raises them anew, and a SQLSTATE of our own (MI007) would come out as XX000.
unsafe extern "C-unwind" {
    fn SPI_execute(
        query: *const core::ffi::c_char,
        read_only: bool,
        count: core::ffi::c_long,
    ) -> core::ffi::c_int;
}

/// Runs a one-row query without assigning a transaction id, which pgrx's own SPI would.
///
/// # Safety
/// SPI is connected.
unsafe fn query_bigint(query: &std::ffi::CStr) -> i64 {
    // SAFETY: SPI is connected; after SPI_OK_SELECT with one row its table and descriptor are set, and a bigint is
    // passed by value. An error jumps out of here and of the procedure, which hold nothing that would have to be dropped.
    unsafe {
        // Not read_only: a fresh snapshot is wanted; a SELECT assigns no transaction id either way.
        let outcome = SPI_execute(query.as_ptr(), false, 1);
        if outcome != pg_sys::SPI_OK_SELECT as i32 || pg_sys::SPI_processed != 1 {
            error!(
                "wait_for_events expected one row from {}",
                query.to_string_lossy()
            );
        }
        let table = pg_sys::SPI_tuptable;
        let mut is_null = false;
        let datum = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &raw mut is_null);
        let value = datum.value() as i64;
        pg_sys::SPI_freetuptable(table);
        value
    }
}

/// # Safety
/// `fcinfo` is that of wait_for_events, whose INOUT parameters are two bigints.
unsafe fn result(fcinfo: pg_sys::FunctionCallInfo, safe: i64, epoch: i64) -> pg_sys::Datum {
    // SAFETY: the result type is the record of the INOUT parameters; both values are passed by value and not NULL.
    unsafe {
        let mut descriptor: pg_sys::TupleDesc = std::ptr::null_mut();
        pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &raw mut descriptor);
        let descriptor = pg_sys::BlessTupleDesc(descriptor);
        let mut values = [pg_sys::Datum::from(safe), pg_sys::Datum::from(epoch)];
        let mut nulls = [false, false];
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}
