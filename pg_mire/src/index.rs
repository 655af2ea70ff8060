//! Looking for rows through an index.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum, Relation, TupleTableSlot};

use crate::raw;

/// Who, if anybody, is at a name.
pub(crate) enum Seen {
    Nothing,
    Committed,
    /// A row of another transaction that has not ended; the snapshot says which.
    InProgress(pg_sys::SnapshotData, pg_sys::ItemPointerData),
}

/// Looks for a name as of this very moment, also among rows that are not committed yet. `slot` is empty before and after.
///
/// # Safety
/// Both are open, the index has one column, text COLLATE "C"; `name` is a text; the slot is for the table; nothing to drop.
pub(crate) unsafe fn look(
    table: Relation,
    index: Relation,
    name: Datum,
    slot: *mut TupleTableSlot,
) -> Seen {
    // SAFETY: a dirty snapshot needs no fields but its type; the scan writes into it whose uncommitted row it found.
    unsafe {
        let mut dirty = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        let scan = begin_scan(table, index, &raw mut dirty, 1);
        let there = find(scan, &mut [Key::text(1, name)], slot);
        let tid = (*slot).tts_tid;
        raw::index_endscan(scan);
        clear(slot);
        if !there {
            Seen::Nothing
        } else if dirty.xmin == pg_sys::InvalidTransactionId {
            Seen::Committed
        } else {
            Seen::InProgress(dirty, tid)
        }
    }
}

/// Begins a scan of an index of a table, with conditions on so many of its columns.
///
/// # Safety
/// Both are open, the snapshot outlives the scan; nothing to drop.
pub(crate) unsafe fn begin_scan(
    table: Relation,
    index: Relation,
    snapshot: pg_sys::Snapshot,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: no order-by.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return raw::index_beginscan(table, index, snapshot, keys, 0);
        #[cfg(feature = "pg18")]
        return raw::index_beginscan(table, index, snapshot, std::ptr::null_mut(), keys, 0);
    }
}

/// A condition on a column of an index.
#[repr(transparent)]
pub(crate) struct Key(pg_sys::ScanKeyData);

impl Key {
    /// A text COLLATE "C" that is this one.
    ///
    /// # Safety
    /// Nothing to drop, of this and the others.
    pub(crate) unsafe fn text(column: i16, value: Datum) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let equal = pg_sys::BTEqualStrategyNumber;
            Self::new(
                column,
                equal,
                pg_sys::C_COLLATION_OID,
                pg_sys::F_TEXTEQ,
                value,
            )
        }
    }

    /// A bigint that is this one.
    pub(crate) unsafe fn bigint(column: i16, value: Datum) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let equal = pg_sys::BTEqualStrategyNumber;
            Self::new(column, equal, pg_sys::InvalidOid, pg_sys::F_INT8EQ, value)
        }
    }

    /// An integer that is this one.
    pub(crate) unsafe fn integer(column: i16, value: i32) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let equal = pg_sys::BTEqualStrategyNumber;
            Self::new(
                column,
                equal,
                pg_sys::InvalidOid,
                pg_sys::F_INT4EQ,
                value.into(),
            )
        }
    }

    /// A bigint above this one.
    pub(crate) unsafe fn above(column: i16, value: i64) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let greater = pg_sys::BTGreaterStrategyNumber;
            Self::new(
                column,
                greater,
                pg_sys::InvalidOid,
                pg_sys::F_INT8GT,
                value.into(),
            )
        }
    }

    unsafe fn new(
        column: i16,
        strategy: u32,
        collation: pg_sys::Oid,
        operator: u32,
        value: Datum,
    ) -> Self {
        let mut key = pg_sys::ScanKeyData::default();
        // SAFETY: the operator is one of Postgres's own, for the type of the value.
        unsafe {
            raw::ScanKeyEntryInitialize(
                &raw mut key,
                0,
                column,
                strategy as _,
                pg_sys::InvalidOid,
                collation,
                pg_sys::Oid::from(operator),
                value,
            );
        }
        Self(key)
    }
}

/// The first row that an index has for some conditions, one for each of its first columns.
///
/// # Safety
/// The scan was begun with as many keys, which fit the index; the slot is for its table; nothing to drop.
pub(crate) unsafe fn find(
    scan: pg_sys::IndexScanDesc,
    keys: &mut [Key],
    slot: *mut TupleTableSlot,
) -> bool {
    // SAFETY: the keys are copied into the scan.
    unsafe {
        let count = keys.len() as _;
        raw::index_rescan(
            scan,
            keys.as_mut_ptr().cast(),
            count,
            std::ptr::null_mut(),
            0,
        );
        next_match(scan, slot)
    }
}

/// The next one, in the index's order.
///
/// # Safety
/// As [`find`], which came before.
pub(crate) unsafe fn next_match(scan: pg_sys::IndexScanDesc, slot: *mut TupleTableSlot) -> bool {
    // SAFETY: the caller's promise.
    unsafe { raw::index_getnext_slot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) }
}

/// ExecClearTuple.
///
/// # Safety
/// A slot of ours.
pub(crate) unsafe fn clear(slot: *mut TupleTableSlot) {
    // SAFETY: every kind of slot can be cleared.
    unsafe { (*(*slot).tts_ops).clear.expect("every slot can")(slot) }
}
