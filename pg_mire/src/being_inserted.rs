//! Whether another open transaction is just inserting a name (of a stream, of a lease): the name's index, probed with a
//! dirty snapshot, shows rows that are not committed yet. An INSERT would wait for that transaction.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::prelude::*;

use crate::catalog::{self, OpenRelation};

#[pg_extern(sql = false)]
fn being_inserted(table: &CStr, index: &CStr, name: &str) -> bool {
    let heap = OpenRelation::open(catalog::relation(table));
    let index = OpenRelation::open(catalog::relation(index));
    let name = name.into_datum().expect("a str is never NULL");

    // SAFETY: the index has one column, text COLLATE "C", and the key says the same. A dirty snapshot needs no fields
    // but its type; the scan writes into it whose uncommitted row it found. Slot and scan end before the relations close.
    unsafe {
        let mut snapshot = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyEntryInitialize(
            &raw mut key,
            0,
            1,
            pg_sys::BTEqualStrategyNumber as _,
            pg_sys::Oid::INVALID,
            pg_sys::C_COLLATION_OID,
            pg_sys::Oid::from(pg_sys::F_TEXTEQ),
            name,
        );
        let slot = pg_sys::table_slot_create(heap.as_ptr(), std::ptr::null_mut());
        #[cfg(not(feature = "pg18"))]
        let scan = pg_sys::index_beginscan(heap.as_ptr(), index.as_ptr(), &raw mut snapshot, 1, 0);
        #[cfg(feature = "pg18")]
        let scan = pg_sys::index_beginscan(
            heap.as_ptr(),
            index.as_ptr(),
            &raw mut snapshot,
            std::ptr::null_mut(),
            1,
            0,
        );
        pg_sys::index_rescan(scan, &raw mut key, 1, std::ptr::null_mut(), 0);
        let found =
            pg_sys::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot);
        let by_another = found && snapshot.xmin != pg_sys::InvalidTransactionId;
        pg_sys::index_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        by_another
    }
}
