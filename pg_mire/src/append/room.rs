//! Which page of its table an event goes to: on at the log's end, or into pages that pruning has emptied.
//!
//! Left alone, PostgreSQL puts each small event into another old page that has just so much room left. Events that follow
//! each other in the feed then lie far apart, and each of those pages, changed for the first time since a checkpoint, goes
//! into the WAL as a whole: 8 KB an event. So inserts do not ask the map of free space at all. It is asked here, once a
//! page, and for emptied pages only. The two kinds of room are told apart by their size: a page is full when an event does
//! not fit any more, and an event takes less than a quarter of it, since what is larger is stored out of line.
#![allow(unsafe_code)]

use std::cell::Cell;

use pgrx::pg_sys::{self, BlockNumber, InvalidBlockNumber, Relation};

use crate::raw;

/// Bytes of room in a page that has been emptied. An event of more is stored out of line.
const EMPTIED: usize = pg_sys::BLCKSZ as usize / 4;

/// The most that an event takes besides its texts and its JSON.
const FIXED: usize = 128;

/// So many bytes of texts and JSON are never stored out of line. An event of more goes where PostgreSQL puts it: what is said
/// here would hold for its parts, too, whose table has room to fill.
pub(super) const INLINE: usize = EMPTIED - FIXED;

thread_local! {
    /// The emptied page that this session fills.
    static FILLING: Cell<BlockNumber> = const { Cell::new(InvalidBlockNumber) };
}

/// Has an event inserted whose texts and JSON take so many bytes. `insert` is given the option to do it with, and gives the
/// page where the event is.
///
/// # Safety
/// The table is open, and `insert` inserts into it; nothing to drop (see [`raw`]).
pub(super) unsafe fn place(table: Relation, bytes: usize, insert: impl FnOnce(u32) -> BlockNumber) {
    // SAFETY: as promised.
    unsafe {
        if bytes > INLINE {
            insert(0);
            return;
        }
        if is_filling(table) {
            let page = target(table);
            let room = room(table, page);
            if room < bytes + FIXED {
                fill_emptied(table, page, room);
            }
        }
        go_on(table, insert);
    }
}

/// Has small events inserted at the log's end, while no emptied page [is filled](is_filling).
///
/// # Safety
/// As [`place`].
pub(super) unsafe fn go_on(table: Relation, insert: impl FnOnce(u32) -> BlockNumber) {
    // SAFETY: as promised.
    unsafe {
        let last = target(table);
        let page = insert(pg_sys::TABLE_INSERT_SKIP_FSM);
        if page != last && fill_emptied(table, last, 0) {
            // Whoever looks for room next finds the page that was begun.
            raw::RecordPageWithFreeSpace(table, page, room(table, page));
        }
    }
}

/// Whether this session is filling an emptied page: then events are placed one by one, each where it fits.
///
/// # Safety
/// The table is open.
pub(super) unsafe fn is_filling(table: Relation) -> bool {
    // SAFETY: as promised.
    let last = unsafe { target(table) };
    last == FILLING.get() && last != InvalidBlockNumber
}

/// The page that this session has inserted into last, and where it will insert next.
unsafe fn target(table: Relation) -> BlockNumber {
    // SAFETY: what RelationGetTargetBlock does; the table is open.
    unsafe {
        let storage = (*table).rd_smgr;
        if storage.is_null() {
            InvalidBlockNumber
        } else {
            (*storage).smgr_targblock
        }
    }
}

unsafe fn room(table: Relation, page: BlockNumber) -> usize {
    // SAFETY: a page that was inserted into; its buffer is let go here.
    unsafe {
        let buffer = raw::ReadBuffer(table, page);
        raw::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as _);
        let room = raw::PageGetHeapFreeSpace(pg_sys::BufferGetPage(buffer));
        raw::UnlockReleaseBuffer(buffer);
        room
    }
}

/// Goes on in an emptied page, if there is one, after a page that has so much room left.
unsafe fn fill_emptied(table: Relation, after: BlockNumber, left: usize) -> bool {
    // SAFETY: the map knows pages of any number; the storage is open since something was inserted.
    unsafe {
        let emptied = if after == InvalidBlockNumber {
            raw::GetPageWithFreeSpace(table, EMPTIED)
        } else {
            raw::RecordAndGetPageWithFreeSpace(table, after, left, EMPTIED)
        };
        if emptied != InvalidBlockNumber {
            (*(*table).rd_smgr).smgr_targblock = emptied;
        }
        FILLING.set(emptied);
        emptied != InvalidBlockNumber
    }
}
