//! Streams' names, through the primary key of `stream_heads` and in the snapshot of the page. A stream keeps its number and its
//! name for ever, so a session remembers those that it has met: looking one up takes as long as all the rest of an event.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::prelude::*;

use super::columns;
use crate::catalog::{self, OpenRelation};

/// More names than these are forgotten before the next page: about 6 MB.
const MOST: usize = 1 << 16;

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    /// The table that they are from: DROP and CREATE EXTENSION make another.
    heads: pg_sys::Oid,
    /// As Postgres has them, a header before the bytes; aligned for it.
    names: HashMap<i64, Box<[u32]>>,
}

/// Names for a page.
pub(super) struct Names {
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
        let heads = catalog::relation(c"stream_heads");
        KNOWN.with_borrow_mut(|known| {
            if known.heads != heads || known.names.len() > MOST {
                *known = Known {
                    heads,
                    names: HashMap::new(),
                };
            }
        });
        Self {
            last: None,
            // SAFETY: a plain pointer that only this thread writes.
            context: unsafe { pg_sys::CurrentMemoryContext },
            lookup: None,
        }
    }

    /// A stream's name. It stays where it is until the next page.
    ///
    /// # Safety
    /// The page's snapshot is active, the same one at every call.
    pub(super) unsafe fn of(&mut self, stream_no: i64) -> pg_sys::Datum {
        if let Some((last, name)) = self.last
            && last == stream_no
        {
            return name;
        }
        let datum = |name: &[u32]| pg_sys::Datum::from(name.as_ptr());
        let known = KNOWN.with_borrow(|known| known.names.get(&stream_no).map(|name| datum(name)));
        let name = known.unwrap_or_else(|| {
            // SAFETY: the caller's promise. The context of the statement that is running just now goes before we do:
            // everything the lookup allocates must be in ours.
            let name = unsafe {
                let before = pg_sys::MemoryContextSwitchTo(self.context);
                let lookup = self.lookup.get_or_insert_with(|| Lookup::open());
                let name = lookup.find(stream_no);
                pg_sys::MemoryContextSwitchTo(before);
                name
            };
            KNOWN.with_borrow_mut(|known| datum(known.names.entry(stream_no).or_insert(name)))
        });
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
    unsafe fn find(&mut self, stream_no: i64) -> Box<[u32]> {
        // SAFETY: the index's first column is a bigint, and the key says the same. The name is copied, with its header,
        // before its page is let go of.
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
            let name = pg_sys::pg_detoast_datum(values[self.column - 1].cast_mut_ptr());
            let bytes = pgrx::varlena::varsize_any(name);
            let mut copy = vec![0_u32; bytes.div_ceil(size_of::<u32>())].into_boxed_slice();
            std::ptr::copy_nonoverlapping(name.cast::<u8>(), copy.as_mut_ptr().cast(), bytes);
            copy
        }
    }
}
