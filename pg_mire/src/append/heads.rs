//! Streams' rows in `mire.stream_heads`: found, locked, brought to a new version or made.
//!
//! A row whose version is to change is updated at once, which locks it and is the compare-and-set; only where that finds a
//! row that somebody else has changed meanwhile, or where nothing is to change, the row is locked first.
#![allow(unsafe_code)]

use pgrx::pg_sys::{
    self, Datum, IndexScanDesc, LockTupleMode, Relation, TM_Result, TupleTableSlot,
};
use pgrx::prelude::*;

use super::args::Text;
use super::raise;
use super::target::{self, Target, next_value, one_snapshot, slot_to_fill};
use crate::catalog::{self, columns};
use crate::index::{Key, Seen, begin_scan, clear, find, look};
use crate::raw;

/// A stream as it was when it was claimed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Head {
    pub(crate) stream_no: i64,
    pub(crate) version: i64,
    pub(crate) deleted: bool,
}

/// What became of the wish to have a stream.
#[derive(Clone, Copy)]
pub(crate) enum Claim {
    /// Locked until the transaction ends; if new, made with the version it was to get.
    Ours(Head),
    Absent,
    /// Another transaction has it, and we do not wait.
    Busy,
    /// Another transaction is just making it, and we do not wait.
    Unborn,
}

/// The table, open.
pub(crate) struct Heads {
    relation: Relation,
    index: Relation,
    scan: IndexScanDesc,
    /// For rows that were found.
    found: *mut TupleTableSlot,
    /// For rows that are written.
    written: *mut TupleTableSlot,
    target: Option<Target>,
    wait: bool,
}

const STREAM_NO: usize = 0;
const VERSION: usize = 1;
const DELETED: usize = 4;
const STREAM: usize = 5;
const COLUMNS: usize = 6;

impl Heads {
    /// `wait`: whether to wait for other transactions.
    ///
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(crate) unsafe fn open(wait: bool) -> Self {
        // SAFETY: closed by `close`, or by Postgres when something raises.
        unsafe {
            raw::PreventCommandIfReadOnly(c"append".as_ptr());
            raw::PreventCommandIfParallelMode(c"append".as_ptr());
            let relation = target::open(c"stream_heads", &columns::STREAM_HEADS, 1);
            let index = raw::index_open(
                catalog::relation(c"stream_heads_stream_key"),
                pg_sys::AccessShareLock as _,
            );
            raw::PushActiveSnapshot(raw::GetTransactionSnapshot());
            Self {
                relation,
                index,
                scan: begin_scan(relation, index, raw::GetActiveSnapshot(), 1),
                found: raw::MakeSingleTupleTableSlot(
                    (*relation).rd_att,
                    raw::table_slot_callbacks(relation),
                ),
                written: slot_to_fill(relation),
                target: None,
                wait,
            }
        }
    }

    /// # Safety
    /// Not used afterwards.
    pub(crate) unsafe fn close(&mut self) {
        // SAFETY: in the reverse order of `open`.
        unsafe {
            if let Some(target) = &mut self.target {
                target.close();
            }
            raw::ExecDropSingleTupleTableSlot(self.written);
            raw::ExecDropSingleTupleTableSlot(self.found);
            raw::index_endscan(self.scan);
            raw::PopActiveSnapshot();
            raw::index_close(self.index, pg_sys::AccessShareLock as _);
            raw::table_close(self.relation, pg_sys::NoLock as _);
        }
    }

    /// Looks with a new snapshot from here on, where the isolation level has one.
    pub(crate) unsafe fn refresh(&mut self) {
        // SAFETY: nothing is left that points into the old scan: the slot is cleared.
        unsafe {
            clear(self.found);
            raw::index_endscan(self.scan);
            raw::PopActiveSnapshot();
            raw::PushActiveSnapshot(raw::GetTransactionSnapshot());
            self.scan = begin_scan(self.relation, self.index, raw::GetActiveSnapshot(), 1);
        }
    }

    /// Claims a stream and brings it to the version that `plan` makes of what it is now; makes it when it does not exist
    /// and `create` is set.
    pub(crate) unsafe fn claim(
        &mut self,
        stream: &Text,
        create: bool,
        plan: impl Fn(&Head) -> i64,
    ) -> Claim {
        // SAFETY: the slot `found` holds the row that was found until the next search.
        unsafe {
            loop {
                raw::check_for_interrupts();
                if find(self.scan, &mut [Key::text(1, stream.datum)], self.found) {
                    match self.take(stream, &plan) {
                        Some(claim) => return claim,
                        None => self.refresh(),
                    }
                } else if !create {
                    return Claim::Absent;
                } else {
                    match look(self.relation, self.index, stream.datum, self.found) {
                        Seen::Nothing => {
                            if let Some(head) = self.make(stream, &plan) {
                                return Claim::Ours(head);
                            }
                        }
                        Seen::Committed => {
                            if one_snapshot() {
                                raise::serialization_failure();
                            }
                            self.refresh();
                        }
                        Seen::InProgress(..) if !self.wait => return Claim::Unborn,
                        Seen::InProgress(snapshot, tid) => self.wait_for(&snapshot, tid),
                    }
                }
            }
        }
    }

    /// Makes a stream that begins at this version, and gives its number; None when it is there already, after waiting for
    /// whoever is just making it. One that is there is not touched.
    pub(crate) unsafe fn begin(&mut self, stream: &Text, version: i64) -> Option<i64> {
        // SAFETY: as `claim` does it.
        unsafe {
            loop {
                raw::check_for_interrupts();
                if find(self.scan, &mut [Key::text(1, stream.datum)], self.found) {
                    return None;
                }
                match look(self.relation, self.index, stream.datum, self.found) {
                    Seen::Nothing => {
                        if let Some(head) = self.make(stream, &|_: &Head| version) {
                            return Some(head.stream_no);
                        }
                    }
                    Seen::Committed => {
                        if one_snapshot() {
                            raise::serialization_failure();
                        }
                        return None;
                    }
                    Seen::InProgress(snapshot, tid) => self.wait_for(&snapshot, tid),
                }
            }
        }
    }

    /// Waits for whoever is just making a stream.
    unsafe fn wait_for(&mut self, maker: &pg_sys::SnapshotData, mut tid: pg_sys::ItemPointerData) {
        // SAFETY: what a dirty snapshot has found.
        unsafe {
            if maker.speculativeToken != 0 {
                raw::SpeculativeInsertionWait(maker.xmin, maker.speculativeToken);
            } else {
                raw::XactLockTableWait(
                    maker.xmin,
                    self.relation,
                    &raw mut tid,
                    pg_sys::XLTW_Oper::XLTW_InsertIndex,
                );
            }
            self.refresh();
        }
    }

    /// Takes the row in `found`. None when it has gone meanwhile.
    unsafe fn take(&mut self, stream: &Text, plan: &impl Fn(&Head) -> i64) -> Option<Claim> {
        // SAFETY: tids are copied before their slot is written again.
        unsafe {
            let head = self.head();
            let version = plan(&head);
            if version != head.version && self.update(version, self.wait) == TM_Result::TM_Ok {
                return Some(Claim::Ours(head));
            }

            match self.lock() {
                TM_Result::TM_Ok => {}
                TM_Result::TM_WouldBlock => return Some(Claim::Busy),
                TM_Result::TM_Updated | TM_Result::TM_Deleted if one_snapshot() => {
                    raise::serialization_failure()
                }
                TM_Result::TM_Deleted => return None,
                other => error!("unexpected result {other} of locking a stream"),
            }
            // Its newest version, which need not be the one that was found.
            let name = Text::of(*(*self.found).tts_values.add(STREAM));
            if name.bytes() != stream.bytes() {
                return None;
            }
            let head = self.head();
            let version = plan(&head);
            if version != head.version {
                let result = self.update(version, true);
                if result != TM_Result::TM_Ok {
                    error!("unexpected result {result} of updating a locked stream");
                }
            }
            Some(Claim::Ours(head))
        }
    }

    /// What is in `found`.
    unsafe fn head(&self) -> Head {
        // SAFETY: the slot holds a row of stream_heads; all columns are NOT NULL.
        unsafe {
            if (*self.found).tts_nvalid < COLUMNS as i16 {
                raw::slot_getsomeattrs_int(self.found, COLUMNS as _);
            }
            let value = |column: usize| (*(*self.found).tts_values.add(column)).value();
            Head {
                stream_no: value(STREAM_NO) as i64,
                version: value(VERSION) as i64,
                deleted: value(DELETED) as u8 != 0,
            }
        }
    }

    /// Locks the row in `found` and puts its newest version there.
    unsafe fn lock(&mut self) -> TM_Result::Type {
        // SAFETY: a row that was found, and a snapshot that is active.
        unsafe {
            target::lock_row(
                self.relation,
                self.found,
                COLUMNS,
                raw::GetActiveSnapshot(),
                LockTupleMode::LockTupleNoKeyExclusive,
                self.wait,
            )
        }
    }

    /// Gives the row in `found` another version.
    unsafe fn update(&mut self, version: i64, wait: bool) -> TM_Result::Type {
        // SAFETY: as UPDATE does it. The values point into `found`, which keeps its page pinned.
        unsafe {
            let old = std::slice::from_raw_parts((*self.found).tts_values, COLUMNS);
            let mut values = [None; COLUMNS];
            for (value, old) in values.iter_mut().zip(old) {
                *value = Some(*old);
            }
            values[VERSION] = Some(Datum::from(version));
            target::fill(self.written, &values);

            let tid = (*self.found).tts_tid;
            let (result, indexes) = target::update_row(self.relation, tid, self.written, wait);
            // No heap-only tuple: the page is full, or a user's index has the version.
            if let Some(indexes) = indexes {
                let written = self.written;
                self.target()
                    .row(|target| target.index(written, None, indexes.only_summarizing));
            }
            result
        }
    }

    unsafe fn target(&mut self) -> &mut Target {
        let relation = self.relation;
        // SAFETY: closed together with the relation.
        self.target
            .get_or_insert_with(|| unsafe { Target::of(relation) })
    }

    /// Makes a stream with the version it is to get. None when somebody else was faster.
    unsafe fn make(&mut self, stream: &Text, plan: &impl Fn(&Head) -> i64) -> Option<Head> {
        // SAFETY: the values are of the columns' types, in their order.
        unsafe {
            let arbiter = (*self.index).rd_id;
            let head = Head {
                stream_no: next_value(catalog::relation(c"stream_numbers")),
                ..Head::default()
            };
            let version = plan(&head);
            self.target()
                .row(|target| {
                    target.insert_unless_there(
                        &[
                            Some(head.stream_no.into()),
                            Some(version.into()),
                            Some(1_i64.into()),
                            Some(raw::GetCurrentTimestamp().into()),
                            Some(false.into()),
                            Some(stream.datum),
                        ],
                        arbiter,
                    )
                })
                .then_some(head)
        }
    }
}
