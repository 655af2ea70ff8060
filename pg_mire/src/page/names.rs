//! Streams' names. A page's events have few streams, so each name is looked up once, through the primary key of
//! `stream_heads` and in the snapshot of the page.

use std::collections::HashMap;

use pgrx::prelude::*;

use super::columns;
use crate::catalog::{self, OpenRelation};

/// Names found so far; they live in the memory context that was current at the beginning.
pub(super) struct Names {
    known: HashMap<i64, pg_sys::Datum>,
    last: Option<(i64, pg_sys::Datum)>,
    context: pg_sys::MemoryContext,
    lookup: Option<Lookup>,
}

/// The index, open.
struct Lookup {
    scan: pg_sys::IndexScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    /// Where the name is, counted from 1.
    column: usize,
    // Closed last.
    _index: OpenRelation,
    _heap: OpenRelation,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            known: HashMap::new(),
            last: None,
            // SAFETY: a plain pointer that only this thread writes.
            context: unsafe { pg_sys::CurrentMemoryContext },
            lookup: None,
        }
    }

    /// A stream's name.
    ///
    /// # Safety
    /// The page's snapshot is active, the same one at every call.
    pub(super) unsafe fn of(&mut self, stream_no: i64) -> pg_sys::Datum {
        if let Some((last, name)) = self.last
            && last == stream_no
        {
            return name;
        }
        let name = match self.known.get(&stream_no) {
            Some(&name) => name,
            None => {
                // SAFETY: the caller's promise. The context of the statement that is running just now goes before we do:
                // everything the lookup allocates must be in ours.
                let name = unsafe {
                    let before = pg_sys::MemoryContextSwitchTo(self.context);
                    let lookup = self.lookup.get_or_insert_with(|| Lookup::open());
                    let name = lookup.find(stream_no);
                    pg_sys::MemoryContextSwitchTo(before);
                    name
                };
                self.known.insert(stream_no, name);
                name
            }
        };
        self.last = Some((stream_no, name));
        name
    }

    /// Lets go of the index.
    pub(super) fn close(&mut self) {
        if let Some(lookup) = self.lookup.take() {
            // SAFETY: opened by us, and not used any more. Relations close when it is dropped.
            unsafe {
                pg_sys::index_endscan(lookup.scan);
                pg_sys::ExecDropSingleTupleTableSlot(lookup.slot);
            }
        }
    }
}

impl Lookup {
    /// # Safety
    /// A snapshot is active, and stays so while this is used.
    unsafe fn open() -> Self {
        let heap = OpenRelation::open(catalog::relation(c"stream_heads"));
        let index = OpenRelation::open(catalog::relation(c"stream_heads_pkey"));
        // SAFETY: both relations are open until after the scan's end; one key, no order.
        unsafe {
            let slot = pg_sys::table_slot_create(heap.as_ptr(), std::ptr::null_mut());
            let snapshot = pg_sys::GetActiveSnapshot();
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(heap.as_ptr(), index.as_ptr(), snapshot, 1, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(
                heap.as_ptr(),
                index.as_ptr(),
                snapshot,
                std::ptr::null_mut(),
                1,
                0,
            );
            let column = pg_sys::get_attnum((*heap.as_ptr()).rd_id, c"stream".as_ptr()) as usize;
            Self {
                scan,
                slot,
                column,
                _index: index,
                _heap: heap,
            }
        }
    }

    /// # Safety
    /// As [`open`](Self::open).
    unsafe fn find(&mut self, stream_no: i64) -> pg_sys::Datum {
        // SAFETY: the index's first column is a bigint, and the key says the same. The name is copied before its page
        // is let go of.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyEntryInitialize(
                &raw mut key,
                0,
                1,
                pg_sys::BTEqualStrategyNumber as _,
                pg_sys::Oid::INVALID,
                pg_sys::Oid::INVALID,
                pg_sys::Oid::from(pg_sys::F_INT8EQ),
                stream_no.into(),
            );
            pg_sys::index_rescan(self.scan, &raw mut key, 1, std::ptr::null_mut(), 0);
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            if !pg_sys::index_getnext_slot(self.scan, forward, self.slot) {
                error!("stream number {stream_no} is in mire.events and not in mire.stream_heads");
            }
            let (values, _) = columns(self.slot, self.column);
            pg_sys::pg_detoast_datum_copy(values[self.column - 1].cast_mut_ptr()).into()
        }
    }
}
