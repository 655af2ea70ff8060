//! The SQL functions, declared in `sql/append` and `sql/checks`. They take their arguments as Postgres passes them:
//! turning JSON and arrays into Rust's types and back costs more than all the rest.
#![allow(unsafe_code)]

use std::fmt;

use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::args::{Arguments, Events};
use super::batch::append_batch as append_all;
use super::checks::{self, array_fault, maybe_array_fault};
use super::decide::{Append, Outcome};
use super::heads::{Claim, Head, Heads};
use super::raise;
use crate::answer::rows::{Rows, row, sql_function};
use crate::{raw, settings};

sql_function!(
    append_events_wrapper,
    pg_finfo_append_events_wrapper,
    append_events
);
sql_function!(
    append_batch_wrapper,
    pg_finfo_append_batch_wrapper,
    append_batch
);
sql_function!(
    write_events_wrapper,
    pg_finfo_write_events_wrapper,
    write_events
);
sql_function!(
    lock_stream_wrapper,
    pg_finfo_lock_stream_wrapper,
    lock_stream
);
sql_function!(
    check_array_wrapper,
    pg_finfo_check_array_wrapper,
    check_array
);

/// append_events(stream text, types text[], data jsonb[], metadata jsonb[], ids uuid[], expected_version bigint)
unsafe fn append_events(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared; nothing here needs to be dropped.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        let stream = arguments.text(0);
        if let Some(fault) = checks::name_fault(stream.as_ref().map(|stream| stream.bytes())) {
            raise::invalid(None, c"stream", fault);
        }
        let Some(stream) = stream else {
            unreachable!("a NULL is a fault");
        };
        let expected = arguments.bigint(5);
        if expected.is_some_and(|version| version < -1) {
            raise::out_of_range(
                c"expected_version",
                c"NULL (any), -1 (must exist), 0 (must not exist) or a version",
            );
        }
        let events = Events::of(arguments, 1);
        let append = Append {
            stream,
            expected,
            first: 0,
            total: check(&events),
        };

        let outcome = append_one(&append, &events);
        if outcome.is(c"conflict") {
            raise::version_conflict(&stream, expected, outcome.actual_version.unwrap_or(0));
        } else if outcome.is(c"not_found") {
            raise::about(c"raise_stream_not_found", &stream);
        } else if outcome.is(c"deleted") {
            raise::about(c"raise_stream_deleted", &stream);
        }
        row(
            fcinfo,
            &[
                outcome.version.map(Datum::from),
                outcome.position.map(Datum::from),
                Some(outcome.is(c"duplicate").into()),
            ],
        )
    }
}

/// Claims the stream, waiting for whoever has it, and appends.
unsafe fn append_one(append: &Append, events: &Events) -> Outcome {
    // SAFETY: closed in the reverse order.
    unsafe {
        let mut heads = Heads::open(true);
        let mut log = None;
        let mut head = match heads.claim(&append.stream, append.creates(), |head| {
            append.version_after(head)
        }) {
            Claim::Ours(head) => head,
            _ => Head::default(),
        };
        let outcome = append.perform(&mut head, events, &mut log);
        if let Some(log) = &mut log {
            log.close();
        }
        heads.close();
        raw::CommandCounterIncrement();
        outcome
    }
}

#[derive(Clone, Copy)]
struct TooMany(usize);

impl fmt::Display for TooMany {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "are {}, and mire.max_events_per_call is {}",
            self.0,
            settings::max_events_per_call()
        )
    }
}

/// Raises MI004 for the first thing wrong with the events of one append; gives their number.
unsafe fn check(events: &Events) -> usize {
    // SAFETY: nothing to drop.
    unsafe {
        let Some(types) = &events.types else {
            raise::invalid(None, c"types", "is null");
        };
        if events.data.is_none() {
            raise::invalid(None, c"data", "is null");
        }
        let total = types.len();
        for (name, array, length) in [
            (c"types", &events.types, None),
            (c"data", &events.data, Some(total)),
            (c"metadata", &events.metadata, Some(total)),
            (c"ids", &events.ids, Some(total)),
        ] {
            if let Some(fault) = maybe_array_fault(array, length) {
                raise::invalid(None, name, fault);
            }
        }
        if total > settings::max_events_per_call() {
            raise::invalid(None, c"events", TooMany(total));
        }
        if let Some(fault) = checks::events_fault(events, 0, total) {
            raise::invalid(Some(fault.item), c"event", fault.reason);
        }
        total
    }
}

/// append_batch(streams text[], expected bigint[], counts integer[], types text[], data jsonb[], metadata jsonb[], ids uuid[])
unsafe fn append_batch(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared.
    unsafe {
        let rows = Rows::begin(fcinfo, BATCH_RESULT);
        append_all(Arguments::of(fcinfo), |item, outcome| {
            rows.put(&batch_result(Some(item), outcome));
        });
        Datum::from(0)
    }
}

/// write_events(stream text, head locked_stream, expected_version bigint, types text[], data jsonb[], metadata jsonb[],
/// ids uuid[], first integer, last integer)
unsafe fn write_events(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        let (Some(stream), Some(first), Some(last)) = (
            arguments.text(0),
            arguments.integer(7),
            arguments.integer(8),
        ) else {
            error!("write_events needs a stream and which events are meant");
        };
        if first < 1 || last < first - 1 {
            error!("write_events has no events from {first} to {last}");
        }
        let append = Append {
            stream,
            expected: arguments.bigint(2),
            first: first as usize - 1,
            total: (last - first + 1) as usize,
        };
        let outcome = append_one(&append, &Events::of(arguments, 3));
        row(fcinfo, &batch_result(None, &outcome))
    }
}

/// lock_stream(stream text, to_create boolean)
unsafe fn lock_stream(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        let claim = match arguments.text(0) {
            None => Claim::Absent,
            Some(stream) => {
                let create = arguments
                    .get(1)
                    .is_some_and(|create| create.value() as u8 != 0);
                let mut heads = Heads::open(true);
                let claim = heads.claim(&stream, create, |head| head.version);
                heads.close();
                raw::CommandCounterIncrement();
                claim
            }
        };
        match claim {
            Claim::Ours(head) => row(
                fcinfo,
                &[
                    Some(head.stream_no.into()),
                    Some(head.version.into()),
                    Some(head.deleted.into()),
                ],
            ),
            _ => row(fcinfo, &[None; 3]),
        }
    }
}

/// check_array(field text, items anyarray, length integer)
unsafe fn check_array(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        let length = arguments.integer(2).map(|length| length.max(0) as usize);
        if let (Some(field), Some(shape)) = (arguments.text(0), arguments.shape(1))
            && let Some(fault) = array_fault(&shape, length)
        {
            raise::invalid_field(None, field.datum, fault);
        }
    }
    Datum::from(0)
}

/// name_fault(name text): what is wrong with the name of a stream, an event type or a resource; NULL when nothing is.
#[pg_extern(sql = false)]
fn name_fault(name: Option<&str>) -> Option<String> {
    checks::name_fault(name.map(str::as_bytes)).map(|fault| fault.to_string())
}

const BATCH_RESULT: usize = 6;

fn batch_result(item: Option<usize>, outcome: &Outcome) -> [Option<Datum>; BATCH_RESULT] {
    // SAFETY: nothing to drop.
    let name = unsafe { raw::text(outcome.outcome.to_bytes()) };
    [
        item.map(|item| Datum::from(item as i32)),
        Some(name),
        outcome.version.map(Datum::from),
        outcome.position.map(Datum::from),
        outcome.actual_version.map(Datum::from),
        outcome.reason,
    ]
}
