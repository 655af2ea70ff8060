//! What a procedure needs that ends its caller's snapshot: arguments, queries, a result.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The argument `number` as a timeout; raises 22023 unless it is from 0 to 1 day.
///
/// # Safety
/// `fcinfo` is Postgres's, and the argument is an interval.
pub(super) unsafe fn timeout(fcinfo: pg_sys::FunctionCallInfo, number: usize) -> Duration {
    // SAFETY: the caller's promise; it may be NULL.
    let interval = unsafe { pgrx::pg_getarg::<pgrx::datum::Interval>(fcinfo, number) };
    let timeout = interval.and_then(|interval| {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let days = i64::from(interval.months()) * 30 + i64::from(interval.days());
        let micros = days.checked_mul(DAY)?.checked_add(interval.micros())?;
        u64::try_from(micros)
            .ok()
            .map(Duration::from_micros)
            .filter(|timeout| *timeout <= LONGEST)
    });
    timeout.unwrap_or_else(|| out_of_range("timeout must be from 0 to 1 day"))
}

/// The argument `number` as a position; raises 22023 when it is NULL or negative.
///
/// # Safety
/// `fcinfo` is Postgres's, and the argument is a bigint.
pub(super) unsafe fn position(
    fcinfo: pg_sys::FunctionCallInfo,
    number: usize,
    message: &'static str,
) -> i64 {
    // SAFETY: the caller's promise; it may be NULL.
    let position = unsafe { pgrx::pg_getarg::<i64>(fcinfo, number) };
    position
        .filter(|position| *position >= 0)
        .unwrap_or_else(|| out_of_range(message))
}

pub(super) fn out_of_range(message: &'static str) -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        message,
        "Nothing was changed. Call again with a value in that range.",
    )
}

fn raise(code: PgSqlErrorCode, message: &'static str, hint: &'static str) -> ! {
    ErrorReport::new(code, message, "wait")
        .set_hint(hint)
        .report(PgLogLevel::ERROR);
    unreachable!("an error was reported")
}

/// Raises 25001 where the caller's snapshot cannot be ended.
///
/// # Safety
/// `fcinfo` is Postgres's.
pub(super) unsafe fn refuse_in_transaction_block(fcinfo: pg_sys::FunctionCallInfo) {
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
            "waiting cannot happen inside a transaction block or a function",
            "CALL it by itself with autocommit on: a snapshot held while waiting would hold vacuum back.",
        );
    }
}

/// Connects to SPI so that [`end_callers_snapshot`] is allowed, works, and disconnects.
///
/// # Safety
/// [`refuse_in_transaction_block`] has not raised. `work` owns nothing that would have to be dropped: an error in a query
/// jumps out of it.
pub(super) unsafe fn connected<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: connected before and finished after; on an error Postgres cleans up.
    unsafe {
        pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as _);
        let result = work();
        pg_sys::SPI_finish();
        result
    }
}

/// Commits, which drops every snapshot; the transaction that follows has none until a query takes one. A query makes the
/// portal take one again that lasts, so this comes after each query that sleep follows.
///
/// # Safety
/// Within [`connected`].
pub(super) unsafe fn end_callers_snapshot() {
    // SAFETY: SPI is connected in a nonatomic context.
    unsafe { pg_sys::SPI_commit() };
}

// Not pgrx's binding: it catches errors and raises them anew, and a SQLSTATE of our own (MI007) would come out as XX000.
unsafe extern "C-unwind" {
    fn SPI_execute_with_args(
        query: *const core::ffi::c_char,
        nargs: core::ffi::c_int,
        types: *mut pg_sys::Oid,
        values: *mut pg_sys::Datum,
        nulls: *const core::ffi::c_char,
        read_only: bool,
        count: core::ffi::c_long,
    ) -> core::ffi::c_int;
}

/// Runs a query that gives one bigint, with text arguments (None: NULL), and without assigning a transaction id, which
/// pgrx's own SPI would. NULL comes as 0.
///
/// # Safety
/// Within [`connected`]; the datums are texts that live through the call.
pub(super) unsafe fn query_bigint<const N: usize>(
    query: &CStr,
    arguments: [Option<pg_sys::Datum>; N],
) -> i64 {
    let mut types = [pg_sys::TEXTOID; N];
    let mut values = arguments.map(|argument| argument.unwrap_or(pg_sys::Datum::null()));
    let nulls = arguments.map(|argument| if argument.is_none() { b'n' } else { b' ' });
    // SAFETY: SPI is connected; after SPI_OK_SELECT with one row its table and descriptor are set, and a bigint is
    // passed by value. An error jumps out of here, where nothing would have to be dropped.
    unsafe {
        // Not read_only: a fresh snapshot is wanted; a SELECT assigns no transaction id either way.
        let outcome = SPI_execute_with_args(
            query.as_ptr(),
            N as _,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr().cast(),
            false,
            1,
        );
        if outcome != pg_sys::SPI_OK_SELECT as i32 || pg_sys::SPI_processed != 1 {
            error!("expected one row from {}", query.to_string_lossy());
        }
        let table = pg_sys::SPI_tuptable;
        let mut is_null = false;
        let datum = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &raw mut is_null);
        let value = if is_null { 0 } else { datum.value() as i64 };
        pg_sys::SPI_freetuptable(table);
        value
    }
}

/// The INOUT parameters' record.
///
/// # Safety
/// `fcinfo` is that of a procedure with N INOUT parameters, all bigint.
pub(super) unsafe fn result<const N: usize>(
    fcinfo: pg_sys::FunctionCallInfo,
    values: [i64; N],
) -> pg_sys::Datum {
    let mut values = values.map(pg_sys::Datum::from);
    let mut nulls = [false; N];
    // SAFETY: the result type is the record of the INOUT parameters; the values are passed by value and not NULL.
    unsafe {
        let mut descriptor: pg_sys::TupleDesc = std::ptr::null_mut();
        pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &raw mut descriptor);
        let descriptor = pg_sys::BlessTupleDesc(descriptor);
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// Declares a function to Postgres: the record that says how it is called.
macro_rules! declare {
    ($name:ident) => {
        #[unsafe(no_mangle)]
        #[doc(hidden)]
        pub extern "C" fn $name() -> *const pgrx::pg_sys::Pg_finfo_record {
            static V1: pgrx::pg_sys::Pg_finfo_record =
                pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &raw const V1
        }
    };
}
pub(crate) use declare;
