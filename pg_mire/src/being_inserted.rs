//! Whether another open transaction is just inserting a name (of a lease): an INSERT would wait for that transaction.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::index::{Seen, look};
use crate::{catalog, raw};

#[pg_extern(sql = false)]
fn being_inserted(table: &CStr, index: &CStr, name: &str) -> bool {
    let name = name.into_datum().expect("a str is never NULL");
    // SAFETY: the caller names an index of one column, text COLLATE "C". Everything is closed in the reverse order, or by
    // Postgres when something raises; nothing here is to be dropped.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let table = raw::table_open(catalog::relation(table), lock);
        let index = raw::index_open(catalog::relation(index), lock);
        let slot = raw::MakeSingleTupleTableSlot((*table).rd_att, raw::table_slot_callbacks(table));
        let seen = look(table, index, name, slot);
        raw::ExecDropSingleTupleTableSlot(slot);
        raw::index_close(index, lock);
        raw::table_close(table, lock);
        matches!(seen, Seen::InProgress(..))
    }
}
