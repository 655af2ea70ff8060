//! A table of ours as something to insert into: the way COPY does it, with every index the table has, also those that a
//! user has added. What such an insert would bypass (triggers, check constraints, row security) is refused instead.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, BlockNumber, Datum, LockTupleMode, Relation, TupleTableSlot};

use super::{outgrown, raise};
use crate::index::clear;
use crate::{catalog, raw};

/// Opens `mire.name` for writing; the lock lasts until the transaction ends.
///
/// # Safety
/// Nothing to drop (see [`raw`]).
pub(crate) unsafe fn open(name: &std::ffi::CStr, columns: &[pg_sys::Oid], checks: i16) -> Relation {
    // SAFETY: an open relation's descriptor is there until it is closed.
    unsafe {
        let relation = raw::table_open(catalog::relation(name), pg_sys::RowExclusiveLock as _);
        let class = &*(*relation).rd_rel;
        let constraints = (*(*relation).rd_att).constr;
        let triggers = (*relation).trigdesc;
        let altered = class.relkind as u8 != pg_sys::RELKIND_RELATION
            || usize::try_from(class.relnatts) != Ok(columns.len())
            || class.relchecks != checks
            || class.relhasrules
            || class.relforcerowsecurity
            || (!constraints.is_null() && (*constraints).has_generated_stored)
            || (!triggers.is_null() && fires(&*triggers, checks > 0));
        if altered {
            raise::altered();
        }
        catalog::assert_columns((*relation).rd_att, columns);
        relation
    }
}

/// Whether an insert (and, of stream_heads, an update) would have to fire triggers.
fn fires(triggers: &pg_sys::TriggerDesc, updated: bool) -> bool {
    triggers.trig_insert_before_row
        || triggers.trig_insert_after_row
        || triggers.trig_insert_instead_row
        || triggers.trig_insert_before_statement
        || triggers.trig_insert_after_statement
        || triggers.trig_insert_new_table
        || (updated
            && (triggers.trig_update_before_row
                || triggers.trig_update_after_row
                || triggers.trig_update_before_statement
                || triggers.trig_update_after_statement
                || triggers.trig_update_old_table
                || triggers.trig_update_new_table))
}

/// An open table with its open indexes.
pub(crate) struct Target {
    pub(crate) relation: Relation,
    info: pg_sys::ResultRelInfo,
    estate: *mut pg_sys::EState,
    /// Emptied after each piece of work.
    row_memory: pg_sys::MemoryContext,
    pub(super) slot: *mut TupleTableSlot,
    /// The last of those that were written to.
    page: BlockNumber,
}

impl Target {
    /// # Safety
    /// The relation is open for writing and outlives this; nothing to drop.
    pub(crate) unsafe fn of(relation: Relation) -> Self {
        let mut info = pg_sys::ResultRelInfo::default();
        // SAFETY: range table index 0 is what Postgres itself uses for a relation that is in no query.
        unsafe {
            raw::InitResultRelInfo(&raw mut info, relation, 0, std::ptr::null_mut(), 0);
            raw::ExecOpenIndices(&raw mut info, false);
            let estate = raw::CreateExecutorState();
            Self {
                relation,
                info,
                estate,
                row_memory: (*raw::MakePerTupleExprContext(estate)).ecxt_per_tuple_memory,
                slot: slot_to_fill(relation),
                page: 0,
            }
        }
    }

    /// # Safety
    /// Nothing to drop.
    pub(crate) unsafe fn close(&mut self) {
        // SAFETY: closes what `of` opened; not used afterwards.
        unsafe {
            outgrown::look(self.relation, self.page);
            raw::ExecDropSingleTupleTableSlot(self.slot);
            raw::ExecCloseIndices(&raw mut self.info);
            raw::FreeExecutorState(self.estate);
        }
    }

    /// The index that is the primary key.
    ///
    /// # Safety
    /// Nothing to drop.
    pub(crate) unsafe fn primary_key(&self) -> Option<Relation> {
        // SAFETY: as many open indexes as ri_NumIndices says.
        unsafe {
            (0..self.info.ri_NumIndices)
                .map(|i| *self.info.ri_IndexRelationDescs.add(i as usize))
                .find(|index| (*(**index).rd_index).indisprimary)
        }
    }

    /// Runs with the row's own memory as the current one, and empties it.
    ///
    /// # Safety
    /// Nothing of what `work` allocates is used afterwards; nothing to drop.
    pub(crate) unsafe fn row<T: Copy>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        // SAFETY: the context belongs to the estate. After an error Postgres sets the current context itself.
        unsafe {
            let caller = pg_sys::MemoryContextSwitchTo(self.row_memory);
            let result = work(self);
            pg_sys::MemoryContextSwitchTo(caller);
            raw::MemoryContextReset(self.row_memory);
            result
        }
    }

    /// Inserts a row. `values`: one a column, None for NULL.
    ///
    /// # Safety
    /// The values are of the columns' types and there are as many; nothing to drop.
    pub(crate) unsafe fn insert(&mut self, values: &[Option<Datum>]) {
        // SAFETY: the caller's promise.
        unsafe {
            fill(self.slot, values);
            self.insert_one(self.slot, 0);
        }
    }

    /// Inserts the row in a slot, with an option TABLE_INSERT_… or 0. Gives its page.
    ///
    /// # Safety
    /// The slot is for this table and filled; nothing to drop.
    pub(crate) unsafe fn insert_one(
        &mut self,
        slot: *mut TupleTableSlot,
        option: u32,
    ) -> BlockNumber {
        // SAFETY: as COPY does it. The indexes' entries point at the tuple's address, which the insert puts into the slot.
        unsafe {
            am(self.relation).tuple_insert.expect("every table can")(
                self.relation,
                slot,
                raw::GetCurrentCommandId(true),
                option as _,
                std::ptr::null_mut(),
            );
            self.index(slot, None, false);
            page(slot)
        }
    }

    /// Inserts rows: those of one page at once, with one entry in the WAL. Gives the page of the last.
    ///
    /// # Safety
    /// As [`Self::insert_one`], of every slot.
    pub(crate) unsafe fn insert_many(
        &mut self,
        slots: &mut [*mut TupleTableSlot],
        option: u32,
    ) -> BlockNumber {
        // SAFETY: as COPY does it, too.
        unsafe {
            am(self.relation).multi_insert.expect("every table can")(
                self.relation,
                slots.as_mut_ptr(),
                slots.len() as _,
                raw::GetCurrentCommandId(true),
                option as _,
                std::ptr::null_mut(),
            );
            let mut last = pg_sys::InvalidBlockNumber;
            for slot in slots {
                self.index(*slot, None, false);
                last = page(*slot);
            }
            last
        }
    }

    /// Raises 23502 when the row in a slot lacks a value that it must have.
    ///
    /// # Safety
    /// As [`Self::insert_one`].
    pub(crate) unsafe fn check_nulls(&mut self, slot: *mut TupleTableSlot) {
        // SAFETY: the caller's promise.
        unsafe { raw::ExecConstraints(&raw mut self.info, slot, self.estate) }
    }

    /// Inserts a row, unless that would be a duplicate in the index `arbiter`: then false, without waiting for whoever has
    /// inserted the other.
    ///
    /// # Safety
    /// As [`Self::insert`].
    pub(crate) unsafe fn insert_unless_there(
        &mut self,
        values: &[Option<Datum>],
        arbiter: pg_sys::Oid,
    ) -> bool {
        // SAFETY: a speculative insertion, as ON CONFLICT does it: others who meet the tuple wait for the token's lock
        // until it is confirmed or taken back.
        unsafe {
            let slot = self.slot;
            fill(slot, values);
            let xid = raw::GetCurrentTransactionId();
            let token = raw::SpeculativeInsertionLockAcquire(xid);
            let methods = am(self.relation);
            methods.tuple_insert_speculative.expect("every table can")(
                self.relation,
                slot,
                raw::GetCurrentCommandId(true),
                0,
                std::ptr::null_mut(),
                token,
            );
            let there = self.index(slot, Some(arbiter), false);
            methods.tuple_complete_speculative.expect("every table can")(
                self.relation,
                slot,
                token,
                !there,
            );
            raw::SpeculativeInsertionLockRelease(xid);
            !there
        }
    }

    /// Makes the index entries of the row in `slot`. True when the index `arbiter` has one like it already.
    ///
    /// # Safety
    /// The slot has the address of a tuple just written; nothing to drop.
    pub(crate) unsafe fn index(
        &mut self,
        slot: *mut TupleTableSlot,
        arbiter: Option<pg_sys::Oid>,
        only_summarizing: bool,
    ) -> bool {
        let mut conflict = false;
        // SAFETY: all arguments live through the call. Deferred constraints have triggers, which `open` refuses, so the
        // result, which lists what to recheck, is of no use.
        unsafe {
            self.page = self.page.max(page(slot));
            let arbiters = arbiter.map_or(std::ptr::null_mut(), |index| {
                raw::lappend_oid(std::ptr::null_mut(), index)
            });
            raw::ExecInsertIndexTuples(
                &raw mut self.info,
                slot,
                self.estate,
                false,
                arbiter.is_some(),
                &raw mut conflict,
                arbiters,
                #[cfg(not(any(feature = "pg14", feature = "pg15")))]
                only_summarizing,
            );
        }
        let _ = only_summarizing;
        conflict
    }
}

/// The functions of a table's access method: what the inline functions table_tuple_… of Postgres call.
///
/// # Safety
/// The relation is an open table.
pub(crate) unsafe fn am(relation: Relation) -> &'static pg_sys::TableAmRoutine {
    // SAFETY: static data of the access method's library.
    unsafe { &*(*relation).rd_tableam }
}

/// A slot to [`fill`]. Its row is formed from the values when it is written, and only then.
///
/// # Safety
/// The relation is open; nothing to drop.
pub(crate) unsafe fn slot_to_fill(relation: Relation) -> *mut TupleTableSlot {
    // SAFETY: the slot keeps its own hold on the descriptor.
    unsafe { raw::MakeSingleTupleTableSlot((*relation).rd_att, &raw const pg_sys::TTSOpsHeapTuple) }
}

/// The page of the row that a slot was written as.
unsafe fn page(slot: *mut TupleTableSlot) -> BlockNumber {
    // SAFETY: an open slot.
    let page = unsafe { (*slot).tts_tid.ip_blkid };
    u32::from(page.bi_hi) << 16 | u32::from(page.bi_lo)
}

/// Puts values into a slot, which only points to them.
///
/// # Safety
/// As many values as the slot's descriptor has columns, of their types.
pub(crate) unsafe fn fill(slot: *mut TupleTableSlot, values: &[Option<Datum>]) {
    // SAFETY: as promised.
    unsafe {
        clear(slot);
        for (i, value) in values.iter().enumerate() {
            *(*slot).tts_values.add(i) = value.unwrap_or(Datum::from(0));
            *(*slot).tts_isnull.add(i) = value.is_none();
        }
        raw::ExecStoreVirtualTuple(slot);
    }
}

/// The next value of a sequence of ours, as nextval gives it.
///
/// # Safety
/// A sequence; nothing to drop.
pub(crate) unsafe fn next_value(sequence: pg_sys::Oid) -> i64 {
    // SAFETY: nextval_oid takes one regclass and gives a bigint, or raises.
    unsafe {
        raw::DirectFunctionCall1Coll(Some(raw::nextval_oid), pg_sys::InvalidOid, sequence.into())
    }
    .value() as i64
}

/// Whether one snapshot serves the whole transaction.
pub(crate) fn one_snapshot() -> bool {
    // SAFETY: a plain integer that only this thread writes.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Locks the row in `slot`, as SELECT … FOR NO KEY UPDATE (or another `mode`) does it, and puts its newest version there, with
/// so many columns.
///
/// # Safety
/// The slot holds a row of this open table; nothing to drop.
pub(crate) unsafe fn lock_row(
    relation: Relation,
    slot: *mut TupleTableSlot,
    columns: usize,
    snapshot: pg_sys::Snapshot,
    mode: LockTupleMode::Type,
    wait: bool,
) -> pg_sys::TM_Result::Type {
    // SAFETY: the address is copied before the slot is written again.
    unsafe {
        let mut flags = pg_sys::TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
        if !one_snapshot() {
            flags |= pg_sys::TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
        }
        let mut tid = (*slot).tts_tid;
        clear(slot);
        let mut failure = pg_sys::TM_FailureData::default();
        let result = am(relation).tuple_lock.expect("every table can")(
            relation,
            &raw mut tid,
            snapshot,
            slot,
            raw::GetCurrentCommandId(true),
            mode,
            if wait {
                pg_sys::LockWaitPolicy::LockWaitBlock
            } else {
                pg_sys::LockWaitPolicy::LockWaitSkip
            },
            flags as _,
            &raw mut failure,
        );
        if result == pg_sys::TM_Result::TM_Ok {
            raw::slot_getsomeattrs_int(slot, columns as _);
        }
        result
    }
}

/// Which indexes want an entry for a row that was updated.
#[derive(Clone, Copy)]
pub(crate) struct Indexes {
    pub(crate) only_summarizing: bool,
}

/// Puts the row in `written` in the place of the one at `tid`, as UPDATE does it. The second: what is to be done about indexes.
///
/// # Safety
/// The table is open, the slot is for it, and what its values point to lives on; nothing to drop.
pub(crate) unsafe fn update_row(
    relation: Relation,
    mut tid: pg_sys::ItemPointerData,
    written: *mut TupleTableSlot,
    wait: bool,
) -> (pg_sys::TM_Result::Type, Option<Indexes>) {
    // SAFETY: as promised.
    unsafe {
        let mut failure = pg_sys::TM_FailureData::default();
        let mut lock_mode = LockTupleMode::LockTupleNoKeyExclusive;
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let mut indexes = false;
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
        let result = am(relation).tuple_update.expect("every table can")(
            relation,
            &raw mut tid,
            written,
            raw::GetCurrentCommandId(true),
            raw::GetActiveSnapshot(),
            std::ptr::null_mut(),
            wait,
            &raw mut failure,
            &raw mut lock_mode,
            &raw mut indexes,
        );
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let (some, only_summarizing) = (indexes, false);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let (some, only_summarizing) = (
            indexes != pg_sys::TU_UpdateIndexes::TU_None,
            indexes == pg_sys::TU_UpdateIndexes::TU_Summarizing,
        );
        let wanted = some && result == pg_sys::TM_Result::TM_Ok;
        (result, wanted.then_some(Indexes { only_summarizing }))
    }
}
