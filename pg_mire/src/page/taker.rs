//! What becomes of each event of a page's scan. The last one taken waits until it is known whether another follows: only then
//! can it say where to go on.

use pgrx::prelude::*;

use super::columns;
use super::filter::Filter;
use super::names::Names;
use super::text_size::text_size;

/// What a page may hold, and where it is looked for.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) after: i64,
    pub(super) settled: i64,
    pub(super) max_count: i32,
    /// So many events are looked at.
    pub(super) max_looks: i64,
    pub(super) max_bytes: Option<i64>,
}

/// Columns of `page_scan`, which are those of `mire.events`.
mod column {
    pub(super) const POSITION: usize = 0;
    pub(super) const STREAM_NO: usize = 1;
    pub(super) const VERSION: usize = 2;
    pub(super) const EVENT_ID: usize = 3;
    pub(super) const RECORDED_AT: usize = 4;
    pub(super) const TYPE: usize = 6;
    pub(super) const DATA: usize = 7;
    pub(super) const METADATA: usize = 8;
    pub(super) const COUNT: usize = 9;
}

/// Takes what the scan finds.
pub(super) struct Taker {
    limits: Limits,
    filter: Filter,
    names: Names,
    answer: Answer,
    /// The last event taken.
    waiting: *mut pg_sys::TupleTableSlot,
    waiting_name: pg_sys::Datum,
    /// Where the scan is.
    at: i64,
    looks: i64,
    taken: i32,
    bytes: i64,
    /// It has not run to its end.
    full: bool,
    /// What lives until the page is there.
    context: pg_sys::MemoryContext,
}

impl Taker {
    pub(super) fn new(limits: Limits, filter: Filter, answer: Answer) -> Self {
        Self {
            limits,
            filter,
            names: Names::new(),
            answer,
            waiting: std::ptr::null_mut(),
            waiting_name: pg_sys::Datum::null(),
            at: limits.after,
            looks: 0,
            taken: 0,
            bytes: 0,
            full: false,
            // SAFETY: a plain pointer that only this thread writes.
            context: unsafe { pg_sys::CurrentMemoryContext },
        }
    }

    /// Takes an event; false when there is no room for more.
    ///
    /// # Safety
    /// `slot` holds a row of `page_scan`, and the scan's snapshot is active.
    pub(super) unsafe fn take(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the caller's promise. The values are there after the call that fetches them, until the scan goes on.
        unsafe {
            let (values, nulls) = columns(slot, column::COUNT);
            self.at = bigint(values[column::POSITION]);
            self.looks += 1;
            let stream_no = bigint(values[column::STREAM_NO]);
            if !self.filter.lets_through(stream_no, values[column::TYPE]) {
                return true;
            }
            if let Some(most) = self.limits.max_bytes {
                let mut size = text_size(values[column::DATA]);
                if !nulls[column::METADATA] {
                    size += text_size(values[column::METADATA]);
                }
                if self.taken > 0 && self.bytes + size > most {
                    self.full = true;
                    return false;
                }
                self.bytes += size;
            }
            if self.taken > 0 {
                self.put(None);
            }
            self.waiting_name = self.names.of(stream_no);
            self.keep_waiting(slot);
            self.taken += 1;
            self.full = self.taken == self.limits.max_count;
            !self.full
        }
    }

    /// Keeps an event although the scan goes on: what lies in a page of shared buffers stays there, pinned.
    ///
    /// # Safety
    /// As [`take`](Self::take).
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
    unsafe fn put(&mut self, next_position: Option<i64>) {
        // SAFETY: the slot holds a row of page_scan, whose values last until it gets another one.
        unsafe {
            let (values, nulls) = columns(self.waiting, column::COUNT);
            let position = values[column::POSITION];
            self.answer.put(
                [
                    position,
                    self.waiting_name,
                    values[column::VERSION],
                    values[column::EVENT_ID],
                    values[column::TYPE],
                    values[column::RECORDED_AT],
                    values[column::DATA],
                    values[column::METADATA],
                    next_position.map_or(position, Into::into),
                ],
                [
                    false,
                    false,
                    false,
                    false,
                    false,
                    false,
                    false,
                    nulls[column::METADATA],
                    false,
                ],
            );
        }
    }

    /// Ends the page; gives where to go on, and how many events it has.
    ///
    /// # Safety
    /// The scan is through.
    pub(super) unsafe fn finish(&mut self) -> (i64, i32) {
        self.names.close();
        let next = if self.full || self.looks >= self.limits.max_looks {
            self.at_end()
        } else {
            self.limits.after.max(self.limits.settled)
        };
        // SAFETY: with nothing taken there is nothing but the two fixed-size values; otherwise something waits, whose slot
        // is ours.
        unsafe {
            if self.taken == 0 {
                let mut values = [pg_sys::Datum::null(); Answer::OF_EVENT];
                let mut nulls = [true; Answer::OF_EVENT];
                values[Answer::NEXT_POSITION] = next.into();
                nulls[Answer::NEXT_POSITION] = false;
                self.answer.put(values, nulls);
            } else {
                self.put(Some(next));
                pg_sys::ExecDropSingleTupleTableSlot(self.waiting);
            }
        }
        (next, self.taken)
    }

    /// Where a scan ended that has not run to its end: at the last event taken, or, when the budget is used up, at the last one
    /// looked at.
    fn at_end(&self) -> i64 {
        if !self.full {
            return self.at;
        }
        // SAFETY: in a full page something waits.
        let (values, _) = unsafe { columns(self.waiting, 1) };
        bigint(values[column::POSITION])
    }
}

fn bigint(value: pg_sys::Datum) -> i64 {
    value.value() as i64
}

/// Where the caller finds the rows.
pub(super) struct Answer {
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    epoch: Option<i64>,
}

impl Answer {
    /// Columns of `mire.feed_event` without the last one, the epoch.
    const OF_EVENT: usize = 9;
    const NEXT_POSITION: usize = 8;

    /// Begins an answer.
    ///
    /// # Safety
    /// `fcinfo` is that of a function that gives a set of `mire.feed_event`.
    pub(super) unsafe fn begin(fcinfo: pg_sys::FunctionCallInfo, epoch: Option<i64>) -> Self {
        // SAFETY: resultinfo is a ReturnSetInfo where a set is wanted, and its context outlives the answer.
        unsafe {
            let wanted = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
            if wanted.is_null()
                || (*wanted).type_ != pg_sys::NodeTag::T_ReturnSetInfo
                || (*wanted).allowedModes & materialize as i32 == 0
            {
                error!("a page is a set of rows");
            }
            let before = pg_sys::MemoryContextSwitchTo((*(*wanted).econtext).ecxt_per_query_memory);
            let mut descriptor: pg_sys::TupleDesc = std::ptr::null_mut();
            pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &raw mut descriptor);
            let random = pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random;
            let store = pg_sys::tuplestore_begin_heap(
                (*wanted).allowedModes & random as i32 != 0,
                false,
                pg_sys::work_mem,
            );
            (*wanted).returnMode = materialize;
            (*wanted).setResult = store;
            (*wanted).setDesc = descriptor;
            pg_sys::MemoryContextSwitchTo(before);
            if (*descriptor).natts as usize != Self::OF_EVENT + 1 {
                error!("mire.feed_event has {} columns", (*descriptor).natts);
            }
            Self {
                store,
                descriptor,
                epoch,
            }
        }
    }

    /// # Safety
    /// The values are those of `mire.feed_event`.
    unsafe fn put(&self, values: [pg_sys::Datum; Self::OF_EVENT], nulls: [bool; Self::OF_EVENT]) {
        let epoch = self.epoch.map_or(pg_sys::Datum::null(), Into::into);
        let mut all = [epoch; Self::OF_EVENT + 1];
        all[..Self::OF_EVENT].copy_from_slice(&values);
        let mut all_nulls = [self.epoch.is_none(); Self::OF_EVENT + 1];
        all_nulls[..Self::OF_EVENT].copy_from_slice(&nulls);
        // SAFETY: the caller's promise; the row is copied.
        unsafe {
            pg_sys::tuplestore_putvalues(
                self.store,
                self.descriptor,
                all.as_mut_ptr(),
                all_nulls.as_mut_ptr(),
            );
        }
    }
}
