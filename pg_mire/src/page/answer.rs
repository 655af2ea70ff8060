//! What a page is given as: rows of `mire.feed_event`, or the same packed. Each row says where to go on after it: its own position,
//! but for the last one, of which only the end of the scan knows.

use pgrx::prelude::*;

use super::columns;
use super::taker::column;
use super::text_size::text_size;
use crate::answer::packed::{Kind, Packed};
use crate::answer::rows::Rows;

/// An event that the scan has found, and the name of its stream.
pub(super) struct Found<'a> {
    pub(super) slot: *mut pg_sys::TupleTableSlot,
    pub(super) values: &'a [pg_sys::Datum],
    pub(super) nulls: &'a [bool],
    pub(super) name: pg_sys::Datum,
}

/// Columns of `mire.feed_event`.
const COLUMNS: usize = 10;
const NEXT_POSITION: usize = 8;
const EPOCH: usize = 9;
const KINDS: [Kind; COLUMNS] = [
    Kind::Bigint,
    Kind::Text,
    Kind::Bigint,
    Kind::Uuid,
    Kind::Text,
    Kind::Bigint,
    Kind::Jsonb,
    Kind::Jsonb,
    Kind::Bigint,
    Kind::Bigint,
];
/// What a packed row has behind its next position: the epoch, and its length before it.
const BEHIND_NEXT: usize = 4 + size_of::<i64>();

type Row = [Option<pg_sys::Datum>; COLUMNS];

/// The row of an event.
fn row(
    values: &[pg_sys::Datum],
    nulls: &[bool],
    name: pg_sys::Datum,
    next_position: pg_sys::Datum,
    epoch: i64,
) -> Row {
    [
        Some(values[column::POSITION]),
        Some(name),
        Some(values[column::VERSION]),
        Some(values[column::EVENT_ID]),
        Some(values[column::TYPE]),
        Some(values[column::RECORDED_AT]),
        Some(values[column::DATA]),
        (!nulls[column::METADATA]).then_some(values[column::METADATA]),
        Some(next_position),
        Some(epoch.into()),
    ]
}

/// The only row of a page without events.
fn nothing(next_position: i64, epoch: i64) -> Row {
    let mut values = [None; COLUMNS];
    values[NEXT_POSITION] = Some(next_position.into());
    values[EPOCH] = Some(epoch.into());
    values
}

pub(super) enum Answer {
    Rows(InRows),
    Packed(Packed, i64),
}

impl Answer {
    /// # Safety
    /// `fcinfo` is that of a function that returns a set of `mire.feed_event`.
    pub(super) unsafe fn rows(fcinfo: pg_sys::FunctionCallInfo, epoch: i64) -> Self {
        Self::Rows(InRows {
            // SAFETY: the caller's promise.
            rows: unsafe { Rows::begin(fcinfo, COLUMNS) },
            epoch,
            waiting: std::ptr::null_mut(),
            waiting_name: pg_sys::Datum::null(),
            // SAFETY: a plain pointer that only this thread writes.
            context: unsafe { pg_sys::CurrentMemoryContext },
        })
    }

    /// # Safety
    /// The current memory context is that of the call.
    pub(super) unsafe fn packed(epoch: i64) -> Self {
        // SAFETY: the caller's promise.
        Self::Packed(unsafe { Packed::begin(&KINDS, 64 * 1024) }, epoch)
    }

    /// Takes an event. Gives the bytes of JSON in it, if `room` for them is said to matter; None: there is not enough.
    ///
    /// # Safety
    /// A row of `page_scan`, in the scan's slot.
    pub(super) unsafe fn take(&mut self, found: &Found<'_>, room: Option<i64>) -> Option<i64> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Rows(rows) => rows.take(found, room),
                Self::Packed(packed, epoch) => {
                    let mark = packed.mark();
                    let next = found.values[column::POSITION];
                    let size =
                        packed.put(&row(found.values, found.nulls, found.name, next, *epoch));
                    if room.is_some_and(|room| size > room) {
                        packed.rewind(mark);
                        return None;
                    }
                    Some(size)
                }
            }
        }
    }

    /// Ends the answer: its last event, if there is one, says where to go on. Gives the value, if it is one.
    ///
    /// # Safety
    /// Nothing is taken any more.
    pub(super) unsafe fn finish(&mut self, has_events: bool, next: i64) -> Option<pg_sys::Datum> {
        // SAFETY: of the types of mire.feed_event.
        unsafe {
            match self {
                Self::Rows(rows) => {
                    rows.finish(has_events, next);
                    None
                }
                Self::Packed(packed, epoch) => {
                    if has_events {
                        packed.patch(BEHIND_NEXT, next);
                    } else {
                        packed.put(&nothing(next, *epoch));
                    }
                    Some(packed.finish())
                }
            }
        }
    }
}

/// Rows. The last event taken waits until it is known whether another one follows.
pub(super) struct InRows {
    rows: Rows,
    epoch: i64,
    waiting: *mut pg_sys::TupleTableSlot,
    waiting_name: pg_sys::Datum,
    /// What lives until the page is there.
    context: pg_sys::MemoryContext,
}

impl InRows {
    /// # Safety
    /// As [`Answer::take`].
    unsafe fn take(&mut self, found: &Found<'_>, room: Option<i64>) -> Option<i64> {
        // SAFETY: the caller's promise.
        unsafe {
            let mut size = 0;
            if let Some(room) = room {
                size = text_size(found.values[column::DATA]);
                if !found.nulls[column::METADATA] {
                    size += text_size(found.values[column::METADATA]);
                }
                if size > room {
                    return None;
                }
            }
            if !self.waiting.is_null() {
                self.put(None);
            }
            self.waiting_name = found.name;
            self.keep_waiting(found.slot);
            Some(size)
        }
    }

    /// Keeps an event although the scan goes on: what lies in a page of shared buffers stays there, pinned.
    ///
    /// # Safety
    /// The slot is the scan's.
    unsafe fn keep_waiting(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: both slots are of one kind and one descriptor; the waiting one, and its copy of the descriptor, are made
        // where they outlive the scan.
        unsafe {
            if self.waiting.is_null() {
                let before = pg_sys::MemoryContextSwitchTo(self.context);
                self.waiting = pg_sys::MakeSingleTupleTableSlot(
                    pg_sys::CreateTupleDescCopy((*slot).tts_tupleDescriptor),
                    (*slot).tts_ops,
                );
                pg_sys::MemoryContextSwitchTo(before);
            }
            let (kept, ops) = (self.waiting, (*slot).tts_ops);
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                (*ops).copyslot.expect("every kind of slot has it")(kept, slot);
            });
        }
    }

    /// Puts the waiting event into the answer; its own position is where to go on after it, unless something else is said.
    ///
    /// # Safety
    /// There is one.
    unsafe fn put(&mut self, next: Option<i64>) {
        // SAFETY: the slot holds a row of page_scan, whose values last until it gets another one.
        unsafe {
            let (values, nulls) = columns(self.waiting, column::COUNT);
            let next = next.map_or(values[column::POSITION], Into::into);
            self.rows
                .put(&row(values, nulls, self.waiting_name, next, self.epoch));
        }
    }

    unsafe fn finish(&mut self, has_events: bool, next: i64) {
        // SAFETY: with events one of them waits, in a slot that is ours.
        unsafe {
            if has_events {
                self.put(Some(next));
                pg_sys::ExecDropSingleTupleTableSlot(self.waiting);
            } else {
                self.rows.put(&nothing(next, self.epoch));
            }
        }
    }
}
