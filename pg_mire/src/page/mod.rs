//! A page of the feed: runs the scan that `sql/feed/read_page.sql` gives it, and takes each event straight from the executor:
//! counts, filters, finds the stream's name, and puts it where the caller finds it. No row is copied but into the answer.
//!
//! | module | what it does |
//! |---|---|
//! | this one | the function, its arguments and its answer |
//! | [`scan`] | runs the scan, with a snapshot of its own |
//! | [`taker`] | what becomes of each event, and how far the page has looked |
//! | [`answer`] | rows, or the same packed |
//! | [`filter`] | which events are for this reader |
//! | [`names`] | streams' names, each looked up once a page |
//! | [`text_size`] | how long a jsonb is as text, without writing it |
// `pub`: Postgres finds the function by its symbol.
#![allow(unsafe_code, unreachable_pub)]

mod answer;
mod filter;
mod names;
mod scan;
mod taker;
mod text_size;

use std::cell::Cell;

use pgrx::prelude::*;

use self::answer::Answer;
use self::filter::Filter;
use self::taker::{Limits, Taker};
use crate::wait::declare;

declare!(pg_finfo_read_page_wrapper);
declare!(pg_finfo_read_page_packed_wrapper);

thread_local! {
    static LAST: Cell<(i64, i32)> = const { Cell::new((0, 0)) };
}

/// The page as rows; the SQL declarations are in sql/feed/read_page.sql.
///
/// # Safety
/// Called by Postgres with its ten declared arguments, as a set.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn read_page_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres's, and the types are those of the declaration.
    unsafe {
        page(fcinfo, |epoch| Answer::rows(fcinfo, epoch));
        (*fcinfo).isnull = true;
    }
    pg_sys::Datum::null()
}

/// The page packed.
///
/// # Safety
/// Called by Postgres with its ten declared arguments.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn read_page_packed_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: fcinfo is Postgres's, and the types are those of the declaration.
    let value = unsafe { page(fcinfo, |epoch| Answer::packed(epoch)) };
    value.expect("a packed page is a value")
}

/// # Safety
/// With the ten arguments that both functions have.
unsafe fn page(
    fcinfo: pg_sys::FunctionCallInfo,
    answer: impl FnOnce(i64) -> Answer,
) -> Option<pg_sys::Datum> {
    // SAFETY: the caller's promise.
    unsafe {
        let bigint = |number| pgrx::pg_getarg::<i64>(fcinfo, number);
        let integer = |number| pgrx::pg_getarg::<i32>(fcinfo, number);
        let after = bigint(0).unwrap_or(0);
        let settled = bigint(1).unwrap_or(0);
        let max_count = integer(2).unwrap_or(0);
        let categories = pgrx::pg_getarg_datum(fcinfo, 4);
        let filter = Filter::new(
            pgrx::pg_getarg_datum(fcinfo, 5),
            integer(7).unwrap_or(1),
            integer(8).unwrap_or(0),
            pgrx::pg_getarg_datum(fcinfo, 9),
        );
        // What the filter leaves out is looked at too, so a filter looks at no more than the budget.
        let max_looks = if filter.lets_all_through() {
            i64::from(max_count)
        } else {
            crate::settings::scan_budget()
        };
        let limits = Limits {
            after,
            settled,
            max_count,
            max_looks,
            max_bytes: integer(3).map(i64::from),
        };
        let mut taker = Taker::new(limits, filter, answer(bigint(6).unwrap_or(0)));
        scan::run(&mut taker, &limits, categories);
        let (end, value) = taker.finish();
        LAST.set(end);
        value
    }
}

/// Where to go on after the page that [`read_page_wrapper`] has just given.
#[pg_extern(sql = false)]
fn page_end() -> i64 {
    LAST.get().0
}

/// How many events are in it.
#[pg_extern(sql = false)]
fn page_events() -> i32 {
    LAST.get().1
}

/// The first columns of a slot: their values, and which of them are NULL.
///
/// # Safety
/// The slot holds a row of at least so many columns, and keeps it as long as they are looked at.
unsafe fn columns<'a>(
    slot: *mut pg_sys::TupleTableSlot,
    count: usize,
) -> (&'a [pg_sys::Datum], &'a [bool]) {
    // SAFETY: the caller's promise; both arrays have as many elements as the descriptor, and those that are wanted are valid
    // after the call.
    unsafe {
        // A virtual slot has them all, and refuses to be asked.
        if usize::try_from((*slot).tts_nvalid).is_ok_and(|valid| valid < count) {
            pg_sys::slot_getsomeattrs_int(slot, count as _);
        }
        (
            std::slice::from_raw_parts((*slot).tts_values, count),
            std::slice::from_raw_parts((*slot).tts_isnull, count),
        )
    }
}
