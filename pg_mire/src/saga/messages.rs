//! Messages in `mire.outbox`: sent, and settled once they are answered. Taking one back is rarer, and SQL's business
//! (`change_outbox`).
#![allow(unsafe_code)]

use pgrx::pg_sys::{
    self, Datum, IndexScanDesc, LockTupleMode, Relation, TM_Result, TupleTableSlot,
};
use pgrx::prelude::*;

use super::change::Change;
use super::json::{List, Object};
use crate::append::args::Text;
use crate::append::raise;
use crate::append::target::{self, Target, am, next_value, one_snapshot};
use crate::catalog::{self, columns};
use crate::index::{Key, begin_scan, clear, find};
use crate::raw;

const STATUS: usize = 11;
const COLUMNS: usize = 20;
const CHECKS: i16 = 1;
/// `-infinity`: nobody has it.
const NEVER: i64 = i64::MIN;

/// What keeps a commit's messages from being changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Somebody's transaction has one that is taken back or settled.
    Busy,
    /// A key that is to be sent stands there already.
    Invalid,
}

/// The table, open.
pub(super) struct Messages {
    relation: Relation,
    index: Relation,
    found: *mut TupleTableSlot,
    target: Target,
}

impl Messages {
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(super) unsafe fn open() -> Self {
        // SAFETY: closed by `close`, or by Postgres when something raises.
        unsafe {
            let relation = target::open(c"outbox", &columns::OUTBOX, CHECKS);
            if !(*relation).trigdesc.is_null() {
                raise::altered();
            }
            Self {
                relation,
                index: raw::index_open(
                    catalog::relation(c"outbox_stream_no_key_key"),
                    pg_sys::AccessShareLock as _,
                ),
                found: raw::MakeSingleTupleTableSlot(
                    (*relation).rd_att,
                    raw::table_slot_callbacks(relation),
                ),
                target: Target::of(relation),
            }
        }
    }

    /// # Safety
    /// Not used afterwards.
    pub(super) unsafe fn close(&mut self) {
        // SAFETY: in the reverse order of `open`.
        unsafe {
            self.target.close();
            raw::ExecDropSingleTupleTableSlot(self.found);
            raw::index_close(self.index, pg_sys::AccessShareLock as _);
            raw::table_close(self.relation, pg_sys::NoLock as _);
        }
    }

    /// Takes messages back, settles them, sends new ones; or does nothing at all.
    pub(super) unsafe fn change(&mut self, change: &Change, stream_no: i64) -> Result<(), Refused> {
        // SAFETY: the snapshot outlives the scan.
        unsafe {
            if change.withdraw.is_some() {
                return in_sql(change, stream_no);
            }
            // What an item before it has done, of this very call, is seen.
            let snapshot = raw::RegisterSnapshot(raw::GetTransactionSnapshot());
            let scan = begin_scan(self.relation, self.index, snapshot, 2);
            let outcome = self.settle_and_check(change, stream_no, scan, snapshot);
            clear(self.found);
            raw::index_endscan(scan);
            raw::UnregisterSnapshot(snapshot);
            if outcome.is_ok() {
                self.send(change, stream_no);
            }
            outcome
        }
    }

    /// Locks what is to be settled, sees that nothing is in the way, and settles.
    unsafe fn settle_and_check(
        &mut self,
        change: &Change,
        stream_no: i64,
        scan: IndexScanDesc,
        snapshot: pg_sys::Snapshot,
    ) -> Result<(), Refused> {
        // SAFETY: as many rooms as keys; only what was written is read.
        unsafe {
            let (keys, count) = keys_of(change.settled);
            let rows = raw::room::<Option<pg_sys::ItemPointerData>>(count);
            for n in 0..count {
                rows.add(n)
                    .write(self.lock(stream_no, *keys.add(n), scan, snapshot)?);
            }
            if let Some(messages) = change.outbox {
                for n in 0..messages.len() {
                    let key = messages.object(n).and_then(|message| message.text("key"));
                    if let Some(key) = key
                        && self.find(stream_no, key, scan)
                    {
                        return Err(Refused::Invalid);
                    }
                }
            }
            for n in 0..count {
                if let Some(row) = *rows.add(n) {
                    self.delete(row, snapshot);
                }
            }
            Ok(())
        }
    }

    /// Whether a message of this stream has this key.
    unsafe fn find(&self, stream_no: i64, key: Datum, scan: IndexScanDesc) -> bool {
        // SAFETY: the first two columns of the index.
        unsafe {
            let mut keys = [Key::bigint(1, stream_no.into()), Key::text(2, key)];
            find(scan, &mut keys, self.found)
        }
    }

    /// Locks a message; gives its address, unless there is none or it is dead: that one stays for an operator.
    unsafe fn lock(
        &mut self,
        stream_no: i64,
        key: Datum,
        scan: IndexScanDesc,
        snapshot: pg_sys::Snapshot,
    ) -> Result<Option<pg_sys::ItemPointerData>, Refused> {
        // SAFETY: the slot holds the row that was found.
        unsafe {
            if !self.find(stream_no, key, scan) {
                return Ok(None);
            }
            // As for a DELETE: after a weaker lock that one would still wait for whoever reads FOR KEY SHARE.
            let mode = LockTupleMode::LockTupleExclusive;
            match target::lock_row(self.relation, self.found, COLUMNS, snapshot, mode, false) {
                TM_Result::TM_Ok => {
                    let status = Text::of(*(*self.found).tts_values.add(STATUS));
                    Ok((status.bytes() != b"dead").then_some((*self.found).tts_tid))
                }
                TM_Result::TM_WouldBlock => Err(Refused::Busy),
                TM_Result::TM_Updated | TM_Result::TM_Deleted if one_snapshot() => {
                    raise::serialization_failure()
                }
                TM_Result::TM_Deleted => Ok(None),
                other => error!("unexpected result {other} of locking a message"),
            }
        }
    }

    unsafe fn delete(&mut self, mut row: pg_sys::ItemPointerData, snapshot: pg_sys::Snapshot) {
        // SAFETY: as DELETE does it; the row is locked.
        let result = unsafe {
            let mut failure = pg_sys::TM_FailureData::default();
            am(self.relation).tuple_delete.expect("every table can")(
                self.relation,
                &raw mut row,
                raw::GetCurrentCommandId(true),
                snapshot,
                std::ptr::null_mut(),
                true,
                &raw mut failure,
                false,
            )
        };
        // A key that is named twice is gone the second time.
        if result != TM_Result::TM_Ok && result != TM_Result::TM_SelfModified {
            error!("unexpected result {result} of deleting a locked message");
        }
    }

    /// Puts a change's messages into the outbox, in their order.
    pub(super) unsafe fn send(&mut self, change: &Change, stream_no: i64) {
        // SAFETY: what is sent has been checked.
        unsafe {
            let Some(messages) = change.outbox else {
                return;
            };
            let numbers = catalog::relation(c"outbox_numbers");
            for n in 0..messages.len() {
                if let Some(message) = messages.object(n) {
                    let values = row(message, change, stream_no, next_value(numbers));
                    self.target.row(|target| target.insert(&values));
                }
            }
        }
    }
}

unsafe fn row(
    message: Object,
    change: &Change,
    stream_no: i64,
    message_no: i64,
) -> [Option<Datum>; COLUMNS] {
    // SAFETY: the values are of the columns' types, in their order.
    unsafe {
        let now = raw::GetCurrentTimestamp();
        let number = |field: &str| message.number(field).unwrap_or_default() as i32;
        [
            Some(message_no.into()),
            Some(stream_no.into()),
            Some(now.into()),
            Some(now.into()),
            Some(NEVER.into()),
            Some(0_i64.into()),
            Some(0_i32.into()),
            Some(number("request").into()),
            Some(number("activation").into()),
            Some(message.flag("undo").into()),
            Some(true.into()),
            Some(raw::text(b"pending")),
            None,
            None,
            Some(change.saga),
            Some(change.instance),
            message.text("step"),
            message.text("key"),
            message.text("kind"),
            Some(message.jsonb("data")),
        ]
    }
}

/// Keys as texts, and their number.
unsafe fn keys_of(keys: Option<List>) -> (*const Datum, usize) {
    // SAFETY: room for as many as there are.
    unsafe { keys.map_or((std::ptr::null(), 0), |keys| (keys.each(), keys.len())) }
}

unsafe fn in_sql(change: &Change, stream_no: i64) -> Result<(), Refused> {
    // SAFETY: change_outbox(stream_no bigint, saga text, instance text, outbox jsonb, withdraw text[], settled text[]).
    let outcome = unsafe {
        raise::call(
            c"change_outbox",
            &[
                (pg_sys::INT8OID, Some(stream_no.into())),
                (pg_sys::TEXTOID, Some(change.saga)),
                (pg_sys::TEXTOID, Some(change.instance)),
                (
                    pg_sys::JSONBOID,
                    change.outbox.map(|messages| messages.value().jsonb()),
                ),
                (
                    pg_sys::TEXTARRAYOID,
                    change.withdraw.map(|keys| keys.texts()),
                ),
                (
                    pg_sys::TEXTARRAYOID,
                    change.settled.map(|keys| keys.texts()),
                ),
            ],
        )
    };
    match outcome {
        None => Ok(()),
        // SAFETY: a text.
        Some(outcome) if unsafe { Text::of(outcome) }.bytes() == b"busy" => Err(Refused::Busy),
        Some(_) => Err(Refused::Invalid),
    }
}
