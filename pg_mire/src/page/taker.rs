//! What becomes of each event of a page's scan: for this reader or not, named, weighed, put into the answer; and how far the
//! page has looked.

use pgrx::prelude::*;

use super::answer::{Answer, Found};
use super::columns;
use super::filter::Filter;
use super::names::Names;

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
pub(super) mod column {
    pub(in crate::page) const POSITION: usize = 0;
    pub(in crate::page) const STREAM_NO: usize = 1;
    pub(in crate::page) const VERSION: usize = 2;
    pub(in crate::page) const EVENT_ID: usize = 3;
    pub(in crate::page) const RECORDED_AT: usize = 4;
    pub(in crate::page) const TYPE: usize = 6;
    pub(in crate::page) const DATA: usize = 7;
    pub(in crate::page) const METADATA: usize = 8;
    pub(in crate::page) const COUNT: usize = 9;
}

/// Takes what the scan finds.
pub(super) struct Taker {
    limits: Limits,
    filter: Filter,
    names: Names,
    answer: Answer,
    /// Where the scan is.
    at: i64,
    /// The position of the last event taken.
    last: i64,
    looks: i64,
    taken: i32,
    bytes: i64,
    /// It has not run to its end.
    full: bool,
}

impl Taker {
    pub(super) fn new(limits: Limits, filter: Filter, answer: Answer) -> Self {
        Self {
            limits,
            filter,
            names: Names::new(),
            answer,
            at: limits.after,
            last: limits.after,
            looks: 0,
            taken: 0,
            bytes: 0,
            full: false,
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
            let name = self.names.of(stream_no);
            // The first one fits, however large.
            let room = self.limits.max_bytes.map(|most| {
                if self.taken == 0 {
                    i64::MAX
                } else {
                    most - self.bytes
                }
            });
            let found = Found {
                slot,
                values,
                nulls,
                name,
            };
            let Some(size) = self.answer.take(&found, room) else {
                self.full = true;
                return false;
            };
            self.bytes += size;
            self.last = self.at;
            self.taken += 1;
            self.full = self.taken == self.limits.max_count;
            !self.full
        }
    }

    /// Ends the page: gives where to go on (at the last event taken if it is full, at the last one looked at if the budget is
    /// used up) and how many events it has; and what the function returns.
    ///
    /// # Safety
    /// The scan is through.
    pub(super) unsafe fn finish(&mut self) -> ((i64, i32), Option<pg_sys::Datum>) {
        self.names.close();
        let next = if self.full {
            self.last
        } else if self.looks >= self.limits.max_looks {
            self.at
        } else {
            self.limits.after.max(self.limits.settled)
        };
        // SAFETY: the caller's promise.
        let value = unsafe { self.answer.finish(self.taken > 0, next) };
        ((next, self.taken), value)
    }
}

fn bigint(value: pg_sys::Datum) -> i64 {
    value.value() as i64
}
