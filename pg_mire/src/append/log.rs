//! The events' table: rows are inserted with positions in their order.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::args::{Events, Text, element};
use super::raise;
use super::target::{self, Target, begin_scan, first_match, next_value};
use crate::{catalog, ids, in_flight, positions, raw};

const COLUMNS: i16 = 9;

/// The table, open, with the feed held back below everything that will be written.
pub(super) struct Log {
    target: Target,
    positions: pg_sys::Oid,
}

impl Log {
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(super) unsafe fn open() -> Self {
        // SAFETY: closed by `close`, or by Postgres when something raises.
        unsafe {
            let relation = target::open(c"events", COLUMNS, 0);
            let bound = in_flight::begin_append();
            let log = Self {
                target: Target::of(relation),
                positions: catalog::relation(c"positions"),
            };
            if let Some(bound) = bound {
                log.check_positions(bound);
            }
            log
        }
    }

    /// # Safety
    /// Not used afterwards.
    pub(super) unsafe fn close(&mut self) {
        let relation = self.target.relation;
        // SAFETY: in the reverse order of `open`.
        unsafe {
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
            let scan = begin_scan(table, index, &raw mut pg_sys::SnapshotSelfData);
            let beyond = first_match(
                scan,
                pg_sys::BTGreaterStrategyNumber,
                pg_sys::InvalidOid,
                pg_sys::F_INT8GT,
                above.into(),
                slot,
            )
            .then(|| {
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
        // SAFETY: the values are of the columns' types, in their order. An event's JSON is passed on as it came.
        unsafe {
            let name = stream.bytes();
            let category = name.split(|byte| *byte == b'-').next().unwrap_or(name);
            let category = raw::text(category);
            let sequence = self.positions;
            let mut position = 0;
            for i in 0..total {
                raw::check_for_interrupts();
                let (kind, data) = (
                    element(&events.types, first + i),
                    element(&events.data, first + i),
                );
                let metadata = element(&events.metadata, first + i);
                let id = element(&events.ids, first + i);
                position = self.target.row(|target| {
                    let position = next_value(sequence);
                    let mut made = [0; 16];
                    let id = id.unwrap_or_else(|| {
                        made = ids::time_ordered();
                        Datum::from((&raw const made).cast_mut())
                    });
                    target.insert(
                        &[
                            Some(position.into()),
                            Some(stream_no.into()),
                            Some((version + 1 + i as i64).into()),
                            Some(id),
                            Some(raw::GetCurrentTimestamp().into()),
                            Some(category),
                            kind,
                            data,
                            metadata,
                        ],
                        kind.is_none() || data.is_none(),
                    );
                    position
                });
            }
            position
        }
    }
}
