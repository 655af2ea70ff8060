//! Errors that callers branch on are raised by SQL functions (`sql/errors`), so that there is one table of them. They are
//! called without a guard: pgrx's knows no SQLSTATE of class MI.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fmt::Display;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;

use super::args::Text;
use crate::raw;

/// Room for the arguments of [`call`], laid out as Postgres does it.
#[repr(C)]
struct Call {
    base: pg_sys::FunctionCallInfoBaseData,
    arguments: [pg_sys::NullableDatum; 6],
}

/// Calls `mire_internal.name` and gives its result.
///
/// # Safety
/// The types are the function's and the values are of these types; nothing to drop (see [`raw`]).
pub(crate) unsafe fn call(name: &CStr, arguments: &[(Oid, Option<Datum>)]) -> Option<Datum> {
    const ANUM_OID: i16 = 1;
    // SAFETY: looked up by its exact signature; called as FunctionCallInvoke does, with all that fmgr_info fills in.
    unsafe {
        let mut types = [pg_sys::InvalidOid; 6];
        let mut info = pg_sys::FmgrInfo::default();
        let mut call = Call {
            base: pg_sys::FunctionCallInfoBaseData::default(),
            arguments: [pg_sys::NullableDatum::default(); 6],
        };
        for (n, (oid, value)) in arguments.iter().enumerate() {
            types[n] = *oid;
            call.arguments[n].value = value.unwrap_or(Datum::from(0));
            call.arguments[n].isnull = value.is_none();
        }
        let count = arguments.len();
        let function = raw::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as _,
            ANUM_OID,
            name.as_ptr().into(),
            raw::buildoidvector(types.as_ptr(), count as _).into(),
            raw::get_namespace_oid(c"mire_internal".as_ptr(), false).into(),
            Datum::from(0),
        );
        if function == pg_sys::InvalidOid {
            missing(name);
        }
        raw::fmgr_info(function, &raw mut info);
        call.base.flinfo = &raw mut info;
        call.base.nargs = count as _;
        let address = info.fn_addr.expect("fmgr_info gives an address");
        let result = address((&raw mut call).cast());
        (!call.base.isnull).then_some(result)
    }
}

fn missing(name: &CStr) -> ! {
    error!(
        "pg_mire is not installed in this database: function mire_internal.{} is missing",
        name.to_string_lossy()
    );
}

/// A text for people. What is formatted is gone before anything is raised.
pub(crate) fn words(what: impl Display) -> Datum {
    what.to_string()
        .into_datum()
        .expect("a string is never NULL")
}

/// MI004. `item`: which event or batch item, None when the fault is in the call as a whole.
///
/// # Safety
/// Nothing to drop (see [`raw`]).
pub(super) unsafe fn invalid(item: Option<usize>, field: &CStr, reason: impl Display + Copy) -> ! {
    // SAFETY: as promised.
    unsafe { invalid_field(item, raw::text(field.to_bytes()), reason) }
}

/// [`invalid`], with the field's name as a text of SQL.
///
/// # Safety
/// As [`invalid`].
pub(super) unsafe fn invalid_field(
    item: Option<usize>,
    field: Datum,
    reason: impl Display + Copy,
) -> ! {
    // SAFETY: raise_invalid(item bigint, field text, reason text).
    unsafe {
        call(
            c"raise_invalid",
            &[
                (pg_sys::INT8OID, item.map(|item| Datum::from(item as i64))),
                (pg_sys::TEXTOID, Some(field)),
                (pg_sys::TEXTOID, Some(words(reason))),
            ],
        );
    }
    unreachable!("raise_invalid raises");
}

/// 22023.
///
/// # Safety
/// As [`invalid`].
pub(crate) unsafe fn out_of_range(field: &CStr, allowed: &CStr) -> ! {
    // SAFETY: raise_out_of_range(field text, allowed text).
    unsafe {
        call(
            c"raise_out_of_range",
            &[
                (pg_sys::TEXTOID, Some(raw::text(field.to_bytes()))),
                (pg_sys::TEXTOID, Some(raw::text(allowed.to_bytes()))),
            ],
        );
    }
    unreachable!("raise_out_of_range raises");
}

/// MI001.
///
/// # Safety
/// As [`invalid`].
pub(super) unsafe fn version_conflict(stream: &Text, expected: Option<i64>, actual: i64) -> ! {
    // SAFETY: raise_version_conflict(stream text, expected bigint, actual bigint).
    unsafe {
        call(
            c"raise_version_conflict",
            &[
                (pg_sys::TEXTOID, Some(stream.datum)),
                (pg_sys::INT8OID, expected.map(Datum::from)),
                (pg_sys::INT8OID, Some(Datum::from(actual))),
            ],
        );
    }
    unreachable!("raise_version_conflict raises");
}

/// MI002 and MI005: what these say is only the stream.
///
/// # Safety
/// As [`invalid`], and the function has one argument, a text.
pub(super) unsafe fn about(function: &CStr, stream: &Text) -> ! {
    // SAFETY: as promised.
    unsafe { call(function, &[(pg_sys::TEXTOID, Some(stream.datum))]) };
    unreachable!("it raises");
}

/// 40001: in REPEATABLE READ and SERIALIZABLE, a row that changed since the transaction's snapshot.
pub(crate) fn serialization_failure() -> ! {
    report(
        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        "could not serialize access due to concurrent update",
        None,
    )
}

/// An error of Postgres's own classes. The panic that carries it unwinds through frames of ours alone.
pub(crate) fn report(code: PgSqlErrorCode, message: &'static str, hint: Option<&'static str>) -> ! {
    let mut report = ErrorReport::new(code, message, "append");
    if let Some(hint) = hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return");
}

/// 55000: a table that cannot be written natively without passing something by.
pub(crate) fn altered() -> ! {
    report(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "a table of the store was altered in a way that append would pass by",
        Some(
            "mire.events, mire.stream_heads, mire.sagas and mire.outbox can have more indexes, but no triggers on INSERT, constraints, rules, forced row security, other columns or partitions.",
        ),
    )
}
