//! Runs a page's scan. The statement comes from `mire_internal.page_scan`, its plan is kept for as long as the session lasts,
//! and each run has a snapshot of its own, taken after the settled position.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

use pgrx::prelude::*;

use super::filter::elements;
use super::taker::{Limits, Taker};
use crate::catalog::{self, columns};

/// A plan of more scans than this is large, and not worth keeping.
const KEPT_CATEGORIES: usize = 16;

thread_local! {
    /// Plans by number of categories. Postgres itself plans anew when a table or index has changed.
    static KEPT: RefCell<HashMap<usize, pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
}

/// Hands events to a [`Taker`], as the executor finds them.
#[repr(C)]
struct Receiver<'a> {
    base: pg_sys::DestReceiver,
    taker: &'a mut Taker,
}

/// Runs the scan.
///
/// # Safety
/// Within a function called by Postgres; `categories`, if any, is an array of texts.
pub(super) unsafe fn run(taker: &mut Taker, limits: &Limits, categories: Option<pg_sys::Datum>) {
    // SAFETY: SPI is connected before and finished after; an error leaves that to Postgres. The parameters are those of
    // the statement: two bigints, an array of texts that lives through the call, a bigint.
    unsafe {
        pg_sys::SPI_connect();
        let count = categories.map_or(0, |array| elements(array, pg_sys::TEXTOID).len());
        let plan = plan(count);
        let parameters = pg_sys::makeParamList(4);
        let values = [
            (pg_sys::INT8OID, Some(limits.after.into())),
            (pg_sys::INT8OID, Some(limits.settled.into())),
            (pg_sys::TEXTARRAYOID, categories),
            (pg_sys::INT8OID, Some(limits.max_looks.into())),
        ];
        for (slot, (kind, value)) in (*parameters).params.as_mut_slice(4).iter_mut().zip(values) {
            slot.ptype = kind;
            slot.pflags = pg_sys::PARAM_FLAG_CONST as _;
            slot.isnull = value.is_none();
            slot.value = value.unwrap_or(pg_sys::Datum::null());
        }
        let mut receiver = Receiver {
            base: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(startup),
                rShutdown: Some(nothing),
                rDestroy: Some(nothing),
                mydest: pg_sys::CommandDest::DestTuplestore,
            },
            taker,
        };
        let options = pg_sys::SPIExecuteOptions {
            params: parameters,
            // A fresh snapshot. A SELECT assigns no transaction id either way.
            read_only: false,
            dest: (&raw mut receiver).cast(),
            ..Default::default()
        };
        let outcome = pg_sys::SPI_execute_plan_extended(plan, &raw const options);
        if outcome != pg_sys::SPI_OK_SELECT as i32 {
            error!("the scan of a page ended with {outcome}");
        }
        pg_sys::SPI_finish();
    }
}

/// The plan of a scan of so many categories (0: everything).
///
/// # Safety
/// SPI is connected.
unsafe fn plan(categories: usize) -> pg_sys::SPIPlanPtr {
    if let Some(plan) = KEPT.with_borrow(|kept| kept.get(&categories).copied()) {
        return plan;
    }
    let query = format!("SELECT mire_internal.page_scan({categories})");
    let query = CString::new(query).expect("it holds no NUL");
    let mut types = [
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::TEXTARRAYOID,
        pg_sys::INT8OID,
    ];
    // SAFETY: SPI is connected; one row of one text has come when the call says so, and the text is copied by SPI_prepare.
    unsafe {
        let outcome = pg_sys::SPI_execute(query.as_ptr(), true, 1);
        if outcome != pg_sys::SPI_OK_SELECT as i32 || pg_sys::SPI_processed != 1 {
            error!("expected one row from mire_internal.page_scan");
        }
        let table = pg_sys::SPI_tuptable;
        let text = pg_sys::SPI_getvalue(*(*table).vals, (*table).tupdesc, 1);
        let plan = pg_sys::SPI_prepare(text, types.len() as _, types.as_mut_ptr());
        if plan.is_null() {
            error!("the scan of a page cannot be prepared");
        }
        if categories <= KEPT_CATEGORIES {
            pg_sys::SPI_keepplan(plan);
            KEPT.with_borrow_mut(|kept| kept.insert(categories, plan));
        }
        plan
    }
}

/// Takes an event; false: no more.
#[pg_guard]
unsafe extern "C-unwind" fn receive(
    slot: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: Postgres gives back our own receiver, and a slot of the columns that page_scan names.
    unsafe { (*receiver.cast::<Receiver>()).taker.take(slot) }
}

#[pg_guard]
unsafe extern "C-unwind" fn startup(
    _receiver: *mut pg_sys::DestReceiver,
    _operation: core::ffi::c_int,
    descriptor: pg_sys::TupleDesc,
) {
    // SAFETY: that of the scan's rows; nothing is held here.
    unsafe { catalog::assert_columns(descriptor, &columns::EVENTS) };
}

unsafe extern "C-unwind" fn nothing(_: *mut pg_sys::DestReceiver) {}
