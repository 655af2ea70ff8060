//! The events' table: rows are inserted with positions in their order, those of a page together.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum, TupleTableSlot};
use pgrx::prelude::*;

use super::args::{Events, Text, element};
use super::target::{self, Target, fill, next_value, slot_to_fill};
use super::{raise, room};
use crate::catalog::{self, columns};
use crate::index::{Key, begin_scan, find};
use crate::{ids, in_flight, positions, raw};

/// So many rows wait at most to be written together.
const ROWS: usize = 32;
/// And their texts and JSON take so many bytes at most: about what a page holds.
const BYTES: usize = pg_sys::BLCKSZ as usize;

/// The table, open, with the feed held back below everything that will be written.
pub(crate) struct Log {
    target: Target,
    positions: pg_sys::Oid,
    /// Made when they are needed, the first of them the target's own; those up to `waiting` hold rows that have their positions
    /// and are not written yet.
    slots: [*mut TupleTableSlot; ROWS],
    waiting: usize,
    /// What each of those takes, and all of them.
    bytes: [usize; ROWS],
    all_bytes: usize,
}

impl Log {
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(crate) unsafe fn open() -> Self {
        // SAFETY: closed by `close`, or by Postgres when something raises.
        unsafe {
            let relation = target::open(c"events", &columns::EVENTS, 0);
            let bound = in_flight::begin_append();
            let target = Target::of(relation);
            let mut slots = [std::ptr::null_mut(); ROWS];
            slots[0] = target.slot;
            let log = Self {
                target,
                positions: catalog::relation(c"positions"),
                slots,
                waiting: 0,
                bytes: [0; ROWS],
                all_bytes: 0,
            };
            if let Some(bound) = bound {
                log.check_positions(bound);
            }
            log
        }
    }

    /// # Safety
    /// Not used afterwards.
    pub(crate) unsafe fn close(&mut self) {
        let relation = self.target.relation;
        // SAFETY: in the reverse order of `open`.
        unsafe {
            self.flush();
            for slot in self.slots[1..].iter().take_while(|slot| !slot.is_null()) {
                raw::ExecDropSingleTupleTableSlot(*slot);
            }
            self.target.close();
            raw::table_close(relation, pg_sys::NoLock as _);
        }
    }

    /// That the sequence of positions is not behind the log: set back, say by a restore over a live store, it would fill
    /// holes that readers have passed. Looks above the sequence's value of a moment ago, where normally nothing is (so an
    /// open bulk append costs nothing here); what others have drawn since is at or below its value of now.
    unsafe fn check_positions(&self, above: i64) {
        // SAFETY: SnapshotSelf shows what is committed by now, and takes no predicate locks: under SERIALIZABLE every append
        // would conflict with every other. Scan and slot end here.
        unsafe {
            let table = self.target.relation;
            let Some(index) = self.target.primary_key() else {
                error!("mire.events has no primary key");
            };
            let slot =
                raw::MakeSingleTupleTableSlot((*table).rd_att, raw::table_slot_callbacks(table));
            let scan = begin_scan(table, index, &raw mut pg_sys::SnapshotSelfData, 1);
            let beyond = find(scan, &mut [Key::above(1, above)], slot).then(|| {
                raw::slot_getsomeattrs_int(slot, 1);
                (*(*slot).tts_values).value() as i64
            });
            raw::index_endscan(scan);
            raw::ExecDropSingleTupleTableSlot(slot);
            if let Some(beyond) = beyond.filter(|beyond| *beyond > positions::head()) {
                raise::call(
                    c"raise_positions_behind",
                    &[(pg_sys::INT8OID, Some(beyond.into()))],
                );
            }
        }
    }

    /// Writes `total` events of the call from `first` on after `version` of a stream. Gives the last position.
    pub(super) unsafe fn write(
        &mut self,
        stream: &Text,
        stream_no: i64,
        version: i64,
        events: &Events,
        first: usize,
        total: usize,
    ) -> i64 {
        // SAFETY: as promised.
        unsafe {
            let category = category_of(stream);
            let mut position = 0;
            for i in 0..total {
                raw::check_for_interrupts();
                let of = |part| element(part, first + i);
                position = self.write_one(&Event {
                    stream_no,
                    version: version + 1 + i as i64,
                    category,
                    kind: of(&events.types),
                    data: of(&events.data),
                    metadata: of(&events.metadata),
                    id: of(&events.ids),
                });
            }
            position
        }
    }

    /// Writes one event, now or together with others, but before [`show`] and [`Self::close`] are through. Gives its
    /// position.
    ///
    /// # Safety
    /// The values are of the columns' types and stay until then; nothing to drop (see [`raw`]).
    pub(crate) unsafe fn write_one(&mut self, event: &Event) -> i64 {
        // SAFETY: the values are in the columns' order. An event's JSON is passed on as it came.
        unsafe {
            let texts = [Some(event.category), event.kind, event.data, event.metadata];
            let bytes = texts
                .into_iter()
                .flatten()
                .map(|text| raw::toast_datum_size(text))
                .sum();
            // One that may be stored out of line is written by itself.
            let weight = if bytes > room::INLINE { BYTES } else { bytes };
            if self.waiting == ROWS || self.all_bytes + weight > BYTES {
                self.flush();
            }
            let slot = &mut self.slots[self.waiting];
            if slot.is_null() {
                *slot = slot_to_fill(self.target.relation);
            }
            let slot = *slot;
            let position = next_value(self.positions);
            let values = [
                Some(position.into()),
                Some(event.stream_no.into()),
                Some(event.version.into()),
                Some(event.id.unwrap_or_else(|| made_id())),
                Some(raw::GetCurrentTimestamp().into()),
                Some(event.category),
                event.kind,
                event.data,
                event.metadata,
            ];
            fill(slot, &values);
            if values.contains(&None) {
                self.target.check_nulls(slot);
            }
            self.bytes[self.waiting] = bytes;
            self.all_bytes += weight;
            self.waiting += 1;
            position
        }
    }

    /// Writes what waits to be written.
    unsafe fn flush(&mut self) {
        let rows = self.waiting;
        let (slots, bytes) = (&mut self.slots[..rows], &self.bytes[..rows]);
        // SAFETY: the slots are filled.
        unsafe {
            self.target.row(|target| {
                let table = target.relation;
                if rows > 1 && !room::is_filling(table) {
                    room::go_on(table, |option| target.insert_many(slots, option));
                } else {
                    for (slot, bytes) in slots.iter().zip(bytes) {
                        room::place(table, *bytes, |option| target.insert_one(*slot, option));
                    }
                }
            });
        }
        self.waiting = 0;
        self.all_bytes = 0;
    }
}

/// Lets the statements of this very call see what it has written so far.
///
/// # Safety
/// Nothing to drop (see [`raw`]).
pub(crate) unsafe fn show(log: &mut Option<Log>) {
    // SAFETY: as promised.
    unsafe {
        if let Some(log) = log {
            log.flush();
        }
        raw::CommandCounterIncrement();
    }
}

/// A new event's id.
unsafe fn made_id() -> Datum {
    // SAFETY: room for a uuid.
    unsafe {
        let id = raw::room::<[u8; 16]>(1);
        id.write(ids::time_ordered());
        id.into()
    }
}

/// A row of the log, but for what is drawn when it is written.
pub(crate) struct Event {
    pub(crate) stream_no: i64,
    pub(crate) version: i64,
    pub(crate) category: Datum,
    pub(crate) kind: Option<Datum>,
    pub(crate) data: Option<Datum>,
    pub(crate) metadata: Option<Datum>,
    /// None: one is made.
    pub(crate) id: Option<Datum>,
}

/// The category of a stream's events, as a text.
///
/// # Safety
/// Nothing to drop (see [`raw`]).
pub(crate) unsafe fn category_of(stream: &Text) -> Datum {
    let name = stream.bytes();
    let category = name.split(|byte| *byte == b'-').next().unwrap_or(name);
    // SAFETY: as promised.
    unsafe { raw::text(category) }
}
