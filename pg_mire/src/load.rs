//! Loads a stream: a row about it, its newest usable snapshot, and the events after that; read natively, through the tables' own
//! indexes and the statement's snapshot, so it works on a hot standby as well.
//!
//! Packed, it comes in chunks: while the caller reads one the next is made. Nothing stays open between two of them.
// `pub`: Postgres finds the functions by their symbols.
#![allow(unsafe_code, unreachable_pub)]

use std::ffi::CStr;

use pgrx::pg_sys::{self, Datum, Relation, TupleTableSlot};
use pgrx::prelude::*;

use crate::answer::packed::{Kind, Packed};
use crate::answer::rows::Rows;
use crate::catalog::{self, columns};
use crate::index::{self, Key, clear, next_match};
use crate::raw;
use crate::wait::declare;

declare!(pg_finfo_load_stream_wrapper);
declare!(pg_finfo_load_stream_packed_wrapper);

/// A chunk ends behind the event that makes it so large.
const CHUNK: usize = 32 * 1024;

/// Columns of `mire.stream_event`.
const COLUMNS: usize = 7;
const KINDS: [Kind; COLUMNS] = [
    Kind::Bigint,
    Kind::Bigint,
    Kind::Uuid,
    Kind::Text,
    Kind::Bigint,
    Kind::Jsonb,
    Kind::Jsonb,
];

/// Where loading goes on.
#[derive(Clone, Copy)]
struct Place {
    stream_no: i64,
    after_version: i64,
    over: bool,
}

/// What takes the rows.
trait Sink {
    /// # Safety
    /// The values are of the types of `mire.stream_event`.
    unsafe fn put(&mut self, values: &[Option<Datum>; COLUMNS]);

    fn is_full(&self) -> bool;
}

impl Sink for Rows {
    unsafe fn put(&mut self, values: &[Option<Datum>; COLUMNS]) {
        // SAFETY: the caller's promise.
        unsafe { Self::put(*self, values) }
    }

    fn is_full(&self) -> bool {
        false
    }
}

impl Sink for Packed {
    unsafe fn put(&mut self, values: &[Option<Datum>; COLUMNS]) {
        // SAFETY: the caller's promise.
        unsafe { Self::put(self, values) };
    }

    fn is_full(&self) -> bool {
        self.len() >= CHUNK
    }
}

/// load_stream(stream text, snapshot_schema integer)
///
/// # Safety
/// Called by Postgres with its declared arguments, as a set.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn load_stream_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: nothing here needs to be dropped.
    unsafe {
        let mut rows = Rows::begin(fcinfo, COLUMNS);
        if let Some(mut place) = begin(fcinfo, &mut rows) {
            events(&mut place, &mut rows);
        }
        (*fcinfo).isnull = true;
    }
    Datum::null()
}

/// load_stream_packed(stream text, snapshot_schema integer)
///
/// # Safety
/// Called by Postgres with its declared arguments, as a set.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn load_stream_packed_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> Datum {
    // SAFETY: nothing here needs to be dropped. The place lives as long as Postgres goes on asking.
    unsafe {
        let is_first = (*(*fcinfo).flinfo).fn_extra.is_null();
        if is_first {
            let calls = pg_sys::init_MultiFuncCall(fcinfo);
            let before = pg_sys::MemoryContextSwitchTo((*calls).multi_call_memory_ctx);
            (*calls).user_fctx = raw::room::<Place>(1).cast();
            pg_sys::MemoryContextSwitchTo(before);
        }
        let calls = pg_sys::per_MultiFuncCall(fcinfo);
        let wanted = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let place = (*calls).user_fctx.cast::<Place>();
        let mut chunk = Packed::begin(&KINDS, CHUNK + CHUNK / 2);
        if is_first {
            *place = begin(fcinfo, &mut chunk).unwrap_or(Place {
                stream_no: 0,
                after_version: 0,
                over: true,
            });
        }
        if !(*place).over {
            events(&mut *place, &mut chunk);
        }
        if chunk.len() == 0 {
            pg_sys::end_MultiFuncCall(fcinfo, calls);
            (*wanted).isDone = pg_sys::ExprDoneCond::ExprEndResult;
            (*fcinfo).isnull = true;
            return Datum::null();
        }
        (*calls).call_cntr += 1;
        (*wanted).isDone = pg_sys::ExprDoneCond::ExprMultipleResult;
        chunk.finish()
    }
}

/// A table and the index that it is read through.
struct Table {
    relation: Relation,
    index: Relation,
    slot: *mut TupleTableSlot,
    scan: pg_sys::IndexScanDesc,
}

impl Table {
    /// # Safety
    /// A snapshot is active; closed by [`close`](Self::close), or by Postgres when something raises.
    unsafe fn open(name: &CStr, columns: &[pg_sys::Oid], index: &CStr, keys: i32) -> Self {
        // SAFETY: an open relation's descriptor is there until it is closed.
        unsafe {
            let lock = pg_sys::AccessShareLock as _;
            let relation = raw::table_open(catalog::relation(name), lock);
            catalog::assert_columns((*relation).rd_att, columns);
            let index = raw::index_open(catalog::relation(index), lock);
            Self {
                relation,
                index,
                slot: raw::MakeSingleTupleTableSlot(
                    (*relation).rd_att,
                    raw::table_slot_callbacks(relation),
                ),
                scan: index::begin_scan(relation, index, raw::GetActiveSnapshot(), keys),
            }
        }
    }

    /// The first columns of the row just found, and which of them are NULL.
    ///
    /// # Safety
    /// There is one, and the table has so many columns.
    unsafe fn row<const N: usize>(&self) -> ([Datum; N], [bool; N]) {
        // SAFETY: the slot has its columns once they have been asked for.
        unsafe {
            raw::slot_getsomeattrs_int(self.slot, N as _);
            (
                *(*self.slot).tts_values.cast(),
                *(*self.slot).tts_isnull.cast(),
            )
        }
    }

    /// # Safety
    /// Not used afterwards.
    unsafe fn close(self) {
        // SAFETY: in the reverse order of `open`.
        unsafe {
            let lock = pg_sys::AccessShareLock as _;
            clear(self.slot);
            raw::index_endscan(self.scan);
            raw::ExecDropSingleTupleTableSlot(self.slot);
            raw::index_close(self.index, lock);
            raw::table_close(self.relation, lock);
        }
    }
}

/// Puts the row about the stream and that of its snapshot. None: there is no such stream.
unsafe fn begin(fcinfo: pg_sys::FunctionCallInfo, sink: &mut impl Sink) -> Option<Place> {
    // SAFETY: arguments as declared; the columns are those of sql/schema/tables.sql.
    unsafe {
        let stream = pgrx::pg_getarg_datum(fcinfo, 0)?;
        let schema = pgrx::pg_getarg::<i32>(fcinfo, 1);
        let heads = Table::open(
            c"stream_heads",
            &columns::STREAM_HEADS,
            c"stream_heads_stream_key",
            1,
        );
        let name = Key::text(1, stream);
        if !index::find(heads.scan, &mut [name], heads.slot) {
            heads.close();
            return None;
        }
        let ([stream_no, version, truncated_before, created_at, deleted], _) = heads.row();
        heads.close();
        if bigint(version) == 0 {
            return None;
        }
        put(
            sink,
            c"$stream",
            version,
            created_at,
            about(bigint(truncated_before), deleted.value() != 0),
        );
        let mut place = Place {
            stream_no: bigint(stream_no),
            after_version: 0,
            over: false,
        };
        if let Some(schema) = schema
            && deleted.value() == 0
        {
            let snapshots = Table::open(c"snapshots", &columns::SNAPSHOTS, c"snapshots_pkey", 2);
            let mut keys = [Key::bigint(1, stream_no), Key::integer(2, schema)];
            if index::find(snapshots.scan, &mut keys, snapshots.slot) {
                let ([_, _, version, taken_at, state], _) = snapshots.row();
                // From one below what was truncated the events that are left cannot be reached.
                if bigint(version) >= bigint(truncated_before) - 1 {
                    put(sink, c"$snapshot", version, taken_at, state);
                    place.after_version = bigint(version);
                }
            }
            snapshots.close();
        }
        Some(place)
    }
}

/// Puts events until the sink is full or there are no more.
unsafe fn events(place: &mut Place, sink: &mut impl Sink) {
    // SAFETY: the columns are those of sql/schema/tables.sql; values last until the scan goes on.
    unsafe {
        let events = Table::open(
            c"events",
            &columns::EVENTS,
            c"events_stream_no_version_key",
            2,
        );
        let mut keys = [
            Key::bigint(1, place.stream_no.into()),
            Key::above(2, place.after_version),
        ];
        let mut found = index::find(events.scan, &mut keys, events.slot);
        while found {
            raw::check_for_interrupts();
            let (
                [
                    position,
                    _,
                    version,
                    id,
                    recorded_at,
                    _,
                    kind,
                    data,
                    metadata,
                ],
                nulls,
            ): ([Datum; 9], _) = events.row();
            sink.put(&[
                Some(position),
                Some(version),
                Some(id),
                Some(kind),
                Some(recorded_at),
                Some(data),
                (!nulls[8]).then_some(metadata),
            ]);
            place.after_version = bigint(version);
            if sink.is_full() {
                break;
            }
            found = next_match(events.scan, events.slot);
        }
        place.over = !found;
        events.close();
    }
}

/// Puts a row that is no event.
unsafe fn put(sink: &mut impl Sink, kind: &CStr, version: Datum, at: Datum, data: Datum) {
    // SAFETY: of the types of mire.stream_event.
    unsafe {
        let kind = raw::text(kind.to_bytes());
        sink.put(&[
            None,
            Some(version),
            None,
            Some(kind),
            Some(at),
            Some(data),
            None,
        ]);
    }
}

/// What is known about a stream, as a jsonb.
unsafe fn about(truncated_before: i64, deleted: bool) -> Datum {
    use std::io::Write;

    let mut text = [0_u8; 80];
    write!(
        &mut text[..79],
        "{{\"deleted\": {deleted}, \"truncated_before\": {truncated_before}}}"
    )
    .expect("there is room for any bigint");
    // SAFETY: a C string that lives through the call: what was not written is still 0.
    unsafe {
        raw::DirectFunctionCall1Coll(
            Some(raw::jsonb_in),
            pg_sys::InvalidOid,
            text.as_ptr().into(),
        )
    }
}

fn bigint(value: Datum) -> i64 {
    value.value() as i64
}
