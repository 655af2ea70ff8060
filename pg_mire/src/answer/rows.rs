//! Functions as SQL calls them, and rows as they answer them.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use crate::append::raise;
use crate::raw;

/// Declares a function that SQL calls under this name with its raw arguments. A panic becomes an ERROR here.
macro_rules! sql_function {
    ($(#[$doc:meta])* $name:ident, $information:ident, $body:path) => {
        /// The calling convention.
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        extern "C-unwind" fn $information() -> &'static pgrx::pg_sys::Pg_finfo_record {
            &pgrx::pg_sys::Pg_finfo_record { api_version: 1 }
        }

        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[pgrx::pg_guard]
        unsafe extern "C-unwind" fn $name(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            // SAFETY: Postgres calls us, with the arguments that the declaration in sql/ says.
            unsafe { $body(fcinfo) }
        }
    };
}
pub(crate) use sql_function;

/// The rows that a function answers, gathered.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
}

impl Rows {
    /// Rows of the composite type that the function is declared to return, of so many columns.
    ///
    /// # Safety
    /// A call that Postgres is making right now, of a function that returns a set; nothing to drop (see [`raw`]).
    pub(crate) unsafe fn begin(fcinfo: pg_sys::FunctionCallInfo, columns: usize) -> Self {
        // SAFETY: a tuplestore in the query's memory, as the calling convention wants it.
        unsafe {
            let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            if info.is_null()
                || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
                || (*info).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32
                    == 0
            {
                raise::report(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    "rows are asked for where no set can be taken",
                    None,
                );
            }
            let caller = pg_sys::MemoryContextSwitchTo((*(*info).econtext).ecxt_per_query_memory);
            let descriptor = raw::lookup_rowtype_tupdesc_copy(
                raw::get_func_rettype((*(*fcinfo).flinfo).fn_oid),
                -1,
            );
            let random = pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32;
            let store = raw::tuplestore_begin_heap(
                (*info).allowedModes & random != 0,
                false,
                pg_sys::work_mem,
            );
            pg_sys::MemoryContextSwitchTo(caller);
            expect_columns(descriptor, columns);
            (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            (*info).setResult = store;
            (*info).setDesc = descriptor;
            Self { store, descriptor }
        }
    }

    /// # Safety
    /// As many values as columns, of their types; nothing to drop.
    pub(crate) unsafe fn put<const N: usize>(self, values: &[Option<Datum>; N]) {
        let (mut values, mut nulls) = columns(values);
        // SAFETY: the store copies them.
        unsafe {
            raw::tuplestore_putvalues(
                self.store,
                self.descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
    }
}

fn columns<const N: usize>(values: &[Option<Datum>; N]) -> ([Datum; N], [bool; N]) {
    (
        values.map(|value| value.unwrap_or(Datum::from(0))),
        values.map(|value| value.is_none()),
    )
}

/// A row of the composite type that the function is declared to return.
///
/// # Safety
/// The values are of the columns' types; nothing to drop.
pub(crate) unsafe fn row<const N: usize>(
    fcinfo: pg_sys::FunctionCallInfo,
    values: &[Option<Datum>; N],
) -> Datum {
    // SAFETY: the descriptor is held until the row is made.
    unsafe {
        let result = raw::get_func_rettype((*(*fcinfo).flinfo).fn_oid);
        let descriptor = raw::lookup_rowtype_tupdesc(result, -1);
        expect_columns(descriptor, N);
        let (mut values, mut nulls) = columns(values);
        let tuple = raw::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        if (*descriptor).tdrefcount >= 0 {
            raw::DecrTupleDescRefCount(descriptor);
        }
        raw::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// The library of one version, with the types of another, would write beside its arrays.
unsafe fn expect_columns(descriptor: pg_sys::TupleDesc, columns: usize) {
    // SAFETY: a descriptor in hand.
    let is = unsafe { (*descriptor).natts };
    if is != columns as i32 {
        error!("a result has {is} columns instead of {columns}: ALTER EXTENSION pg_mire UPDATE");
    }
}
