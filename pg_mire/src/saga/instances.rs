//! Instances' rows in `mire.sagas`: found, locked, updated or made.
#![allow(unsafe_code)]

use pgrx::pg_sys::{
    self, Datum, IndexScanDesc, LockTupleMode, Relation, Snapshot, TM_Result, TupleTableSlot,
};
use pgrx::prelude::*;

use super::change::Change;
use crate::append::raise;
use crate::append::target::{self, Target, one_snapshot, slot_to_fill};
use crate::catalog::{self, columns};
use crate::index::{Key, begin_scan, clear, find};
use crate::raw;

/// The table's columns, in their order.
const STREAM_NO: usize = 0;
const STARTED_AT: usize = 1;
const CHANGED_AT: usize = 2;
const LEASE_EXPIRES_AT: usize = 3;
const FENCE: usize = 4;
const DUE_AT: usize = 5;
const ENDED_AT: usize = 6;
const ATTEMPTS: usize = 7;
const TOPOLOGY_VERSION: usize = 8;
const PRUNED: usize = 9;
const HOLDER: usize = 10;
const STATUS: usize = 11;
const STEPS: usize = 12;
const ERROR: usize = 13;
const SAGA: usize = 14;
const INSTANCE: usize = 15;
const COLUMNS: usize = 16;
const CHECKS: i16 = 2;

/// `-infinity`: nobody holds it.
const NEVER: i64 = i64::MIN;

/// An instance as it was when it was locked. Its holder lies in the row that was found.
#[derive(Clone, Copy)]
pub(super) struct Instance {
    pub(super) fence: i64,
    pub(super) lease_expires_at: i64,
    pub(super) due_at: Option<i64>,
    pub(super) pruned: bool,
    pub(super) holder: Option<Datum>,
}

/// What became of the wish to have an instance.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// Locked until the transaction ends.
    Ours(Instance),
    /// Another transaction has it.
    Busy,
    Absent,
}

/// A lease as a row is to have it.
#[derive(Clone, Copy)]
pub(super) struct Lease {
    pub(super) holder: Datum,
    pub(super) expires_at: i64,
}

/// The table, open.
pub(super) struct Instances {
    relation: Relation,
    index: Relation,
    snapshot: Snapshot,
    scan: IndexScanDesc,
    /// For rows that were found.
    found: *mut TupleTableSlot,
    /// For rows that are written.
    written: *mut TupleTableSlot,
    target: Option<Target>,
}

impl Instances {
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(super) unsafe fn open() -> Self {
        // SAFETY: closed by `close`, or by Postgres when something raises.
        unsafe {
            raw::PreventCommandIfReadOnly(c"saga_commit".as_ptr());
            raw::PreventCommandIfParallelMode(c"saga_commit".as_ptr());
            let relation = target::open(c"sagas", &columns::SAGAS, CHECKS);
            let index = raw::index_open(
                catalog::relation(c"sagas_pkey"),
                pg_sys::AccessShareLock as _,
            );
            let snapshot = raw::RegisterSnapshot(raw::GetTransactionSnapshot());
            Self {
                relation,
                index,
                snapshot,
                scan: begin_scan(relation, index, snapshot, 2),
                found: raw::MakeSingleTupleTableSlot(
                    (*relation).rd_att,
                    raw::table_slot_callbacks(relation),
                ),
                written: slot_to_fill(relation),
                target: None,
            }
        }
    }

    /// # Safety
    /// Not used afterwards.
    pub(super) unsafe fn close(&mut self) {
        // SAFETY: in the reverse order of `open`.
        unsafe {
            if let Some(target) = &mut self.target {
                target.close();
            }
            raw::ExecDropSingleTupleTableSlot(self.written);
            raw::ExecDropSingleTupleTableSlot(self.found);
            raw::index_endscan(self.scan);
            raw::UnregisterSnapshot(self.snapshot);
            raw::index_close(self.index, pg_sys::AccessShareLock as _);
            raw::table_close(self.relation, pg_sys::NoLock as _);
        }
    }

    /// Looks with a new snapshot from here on.
    pub(super) unsafe fn refresh(&mut self) {
        // SAFETY: nothing is left that points into the old scan: the slot is cleared.
        unsafe {
            clear(self.found);
            raw::index_endscan(self.scan);
            raw::UnregisterSnapshot(self.snapshot);
            self.snapshot = raw::RegisterSnapshot(raw::GetTransactionSnapshot());
            self.scan = begin_scan(self.relation, self.index, self.snapshot, 2);
        }
    }

    /// Locks an instance's row, if nobody else has it.
    pub(super) unsafe fn lock(&mut self, change: &Change) -> Found {
        // SAFETY: the slot `found` holds the row that was found until the next search.
        unsafe {
            raw::check_for_interrupts();
            let mut keys = [Key::text(1, change.saga), Key::text(2, change.instance)];
            if !find(self.scan, &mut keys, self.found) {
                return Found::Absent;
            }
            let (mode, snapshot) = (LockTupleMode::LockTupleNoKeyExclusive, self.snapshot);
            match target::lock_row(self.relation, self.found, COLUMNS, snapshot, mode, false) {
                TM_Result::TM_Ok => Found::Ours(self.instance()),
                TM_Result::TM_WouldBlock => Found::Busy,
                TM_Result::TM_Updated | TM_Result::TM_Deleted if one_snapshot() => {
                    raise::serialization_failure()
                }
                TM_Result::TM_Deleted => Found::Absent,
                other => error!("unexpected result {other} of locking an instance"),
            }
        }
    }

    /// What is in `found`.
    unsafe fn instance(&self) -> Instance {
        // SAFETY: the slot holds a row of sagas, taken apart.
        unsafe {
            let value = |column: usize| {
                let is_null = *(*self.found).tts_isnull.add(column);
                (!is_null).then(|| *(*self.found).tts_values.add(column))
            };
            let number =
                |column: usize| value(column).map_or(0, |value: Datum| value.value() as i64);
            Instance {
                fence: number(FENCE),
                lease_expires_at: number(LEASE_EXPIRES_AT),
                due_at: value(DUE_AT).map(|at| at.value() as i64),
                pruned: value(PRUNED).is_some_and(|pruned| pruned.value() as u8 != 0),
                holder: value(HOLDER),
            }
        }
    }

    /// Brings the row that was locked last to what a change says. The fence stays when none is given.
    pub(super) unsafe fn update(
        &mut self,
        change: &Change,
        lease: Option<Lease>,
        fence: Option<i64>,
        due_at: Option<i64>,
        now: i64,
    ) {
        // SAFETY: the values are of the columns' types. Those that stay point into `found`, which keeps its page pinned.
        unsafe {
            let mut values = [None; COLUMNS];
            for (column, value) in values.iter_mut().enumerate() {
                if !*(*self.found).tts_isnull.add(column) {
                    *value = Some(*(*self.found).tts_values.add(column));
                }
            }
            let attempts = values[ATTEMPTS].map_or(0, |attempts| attempts.value() as i32);
            values[CHANGED_AT] = Some(now.into());
            values[LEASE_EXPIRES_AT] = Some(lease.map_or(NEVER, |lease| lease.expires_at).into());
            if let Some(fence) = fence {
                values[FENCE] = Some(fence.into());
            }
            values[DUE_AT] = due_at.map(Datum::from);
            values[ENDED_AT] = if change.ended {
                values[ENDED_AT].or(Some(now.into()))
            } else {
                None
            };
            let attempts = if change.failed {
                attempts.saturating_add(1)
            } else {
                0
            };
            values[ATTEMPTS] = Some(attempts.into());
            values[HOLDER] = lease.map(|lease| lease.holder);
            values[STATUS] = Some(change.status);
            values[STEPS] = Some(change.steps);
            values[ERROR] = change.error;
            target::fill(self.written, &values);

            let tid = (*self.found).tts_tid;
            let (result, indexes) = target::update_row(self.relation, tid, self.written, true);
            if result != TM_Result::TM_Ok {
                error!("unexpected result {result} of updating a locked instance");
            }
            if let Some(indexes) = indexes {
                let written = self.written;
                self.target()
                    .row(|target| target.index(written, None, indexes.only_summarizing));
            }
        }
    }

    /// Makes the row of an instance whose stream has just been made.
    pub(super) unsafe fn insert(
        &mut self,
        change: &Change,
        stream_no: i64,
        lease: Option<Lease>,
        fence: Option<i64>,
        due_at: Option<i64>,
        now: i64,
    ) {
        // SAFETY: the values are of the columns' types.
        unsafe {
            let mut values = [None; COLUMNS];
            values[STREAM_NO] = Some(stream_no.into());
            values[STARTED_AT] = Some(now.into());
            values[CHANGED_AT] = Some(now.into());
            values[LEASE_EXPIRES_AT] = Some(lease.map_or(NEVER, |lease| lease.expires_at).into());
            values[FENCE] = Some(fence.unwrap_or(0).into());
            values[DUE_AT] = due_at.map(Datum::from);
            values[ENDED_AT] = change.ended.then(|| now.into());
            values[ATTEMPTS] = Some(0_i32.into());
            values[TOPOLOGY_VERSION] = Some((change.topology_version as i32).into());
            values[PRUNED] = Some(false.into());
            values[HOLDER] = lease.map(|lease| lease.holder);
            values[STATUS] = Some(change.status);
            values[STEPS] = Some(change.steps);
            values[ERROR] = change.error;
            values[SAGA] = Some(change.saga);
            values[INSTANCE] = Some(change.instance);
            self.target().row(|target| target.insert(&values));
        }
    }

    unsafe fn target(&mut self) -> &mut Target {
        let relation = self.relation;
        // SAFETY: closed together with the relation.
        self.target
            .get_or_insert_with(|| unsafe { Target::of(relation) })
    }
}
