//! The SQL functions, declared in `sql/sagas/items.sql`.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use super::change::Change;
use super::commit::{Desk, Outcome};
use super::start::Start;
use crate::answer::rows::{Rows, sql_function};
use crate::append::args::{Arguments, Array, Element};
use crate::append::log::show;
use crate::append::raise;
use crate::item_fault::Call;
use crate::raw;

sql_function!(
    commit_items_wrapper,
    pg_finfo_commit_items_wrapper,
    commit_items
);
sql_function!(
    start_items_wrapper,
    pg_finfo_start_items_wrapper,
    start_items
);

const SAGA_RESULT: usize = 5;

/// What both functions are called with: items jsonb[], holder text, ttl_us bigint.
struct Asked {
    items: Array,
    holder: Option<Datum>,
    ttl: i64,
}

unsafe fn asked(fcinfo: pg_sys::FunctionCallInfo) -> Asked {
    // SAFETY: arguments as declared.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        let Some(items) = arguments.array(0, Element::Jsonb) else {
            error!("no items");
        };
        Asked {
            items,
            holder: arguments.get(1),
            ttl: arguments.bigint(2).unwrap_or_default(),
        }
    }
}

unsafe fn put(rows: Rows, item: usize, outcome: &Outcome) {
    // SAFETY: the columns of mire.saga_result.
    unsafe {
        let values: [Option<Datum>; SAGA_RESULT] = [
            Some((item as i32 + 1).into()),
            Some(raw::text(outcome.outcome.to_bytes())),
            outcome.version.map(Datum::from),
            outcome.fence.map(Datum::from),
            outcome.reason,
        ];
        rows.put(&values);
    }
}

/// commit_items(items jsonb[], holder text, ttl_us bigint)
unsafe fn commit_items(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared; nothing here needs to be dropped.
    unsafe {
        let rows = Rows::begin(fcinfo, SAGA_RESULT);
        let asked = asked(fcinfo);
        let count = asked.items.len();
        let changes = raw::room::<Result<Change, Datum>>(count);
        for n in 0..count {
            changes
                .add(n)
                .write(Change::of(asked.items.get(n), Call::Commit));
        }
        let changes = std::slice::from_raw_parts(changes, count);

        let mut desk = Desk::open(asked.holder, asked.ttl, false);
        let again = comes_again(changes);
        for (n, change) in changes.iter().enumerate() {
            let outcome = match change {
                Ok(change) => desk.commit(change),
                Err(fault) => Outcome::invalid(*fault),
            };
            put(rows, n, &outcome);
            if again {
                desk.look_again();
            }
        }
        desk.close();
        Datum::from(0)
    }
}

/// Whether an instance comes twice: the second time it is as the first has left it.
unsafe fn comes_again(changes: &[Result<Change, Datum>]) -> bool {
    // SAFETY: room for all; only what was written is read.
    unsafe {
        let names = raw::room::<&[u8]>(changes.len());
        let mut count = 0;
        for change in changes.iter().flatten() {
            names.add(count).write(change.stream.bytes());
            count += 1;
        }
        let names = std::slice::from_raw_parts_mut(names, count);
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    }
}

/// start_items(items jsonb[], holder text, ttl_us bigint)
unsafe fn start_items(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: arguments as declared; the rooms are written before they are read.
    unsafe {
        let rows = Rows::begin(fcinfo, SAGA_RESULT);
        let asked = asked(fcinfo);
        let count = asked.items.len();
        let starts = raw::room::<Start>(count);
        for n in 0..count {
            let change = Change::of(asked.items.get(n), Call::Start).and_then(|change| {
                if change.keep && asked.holder.is_none() {
                    Err(raise::words("keep needs a holder and a ttl"))
                } else {
                    Ok(change)
                }
            });
            starts.add(n).write(Start {
                change,
                stream_no: None,
            });
        }
        let starts = std::slice::from_raw_parts_mut(starts, count);

        let mut desk = Desk::open(asked.holder, asked.ttl, true);
        desk.make_streams(starts);
        let now = raw::GetCurrentTimestamp();
        let outcomes = raw::room::<Option<Outcome>>(count);
        let mut started = 0;
        for (n, start) in starts.iter().enumerate() {
            outcomes
                .add(n)
                .write(match (&start.change, start.stream_no) {
                    (Ok(change), Some(stream_no)) => {
                        started += 1;
                        Some(desk.start(change, stream_no, now + started - 1))
                    }
                    _ => None,
                });
        }
        show(&mut desk.log);
        for (n, start) in starts.iter().enumerate() {
            let outcome = match (*outcomes.add(n), &start.change) {
                (Some(outcome), _) => outcome,
                (None, Ok(change)) => desk.started_before(change),
                (None, Err(fault)) => Outcome::invalid(*fault),
            };
            put(rows, n, &outcome);
        }
        desk.close();
        Datum::from(0)
    }
}
