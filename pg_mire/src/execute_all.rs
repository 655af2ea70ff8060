//! `mire.execute_all`: many executions of a few statements in one call, with the caller's rights. A message and an answer
//! for each would take longer than the statement itself.
// `pub`: Postgres finds the function by its symbol.
#![allow(unsafe_code, unreachable_pub)]

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys::{self, Datum, Oid, SPIPlanPtr};
use pgrx::prelude::*;

use crate::append::args::{Arguments, Array, Element, Text};
use crate::append::raise::{out_of_range, report};
use crate::raw;
use crate::wait::declare;

declare!(pg_finfo_execute_all_wrapper);

/// As many plans are kept in a session.
const KEPT_PLANS: usize = 256;

thread_local! {
    /// Plans by the statement's text and its parameters' types. Postgres plans anew when something has changed.
    static KEPT: RefCell<HashMap<Vec<u8>, SPIPlanPtr>> = RefCell::new(HashMap::new());
}

/// A statement, and where its parameters begin among all.
#[derive(Clone, Copy)]
struct Statement {
    plan: SPIPlanPtr,
    first: usize,
    parameters: usize,
}

/// How a parameter becomes a value.
#[derive(Clone, Copy)]
struct Input {
    function: pg_sys::FmgrInfo,
    of: Oid,
}

/// execute_all(statements text[], parameters integer[], types oid[], calls bytea)
///
/// # Safety
/// Called by Postgres, as declared in sql/driver/execute_all.sql.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn execute_all_wrapper(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: SPI is connected before and finished after; an error leaves that to Postgres. Nothing has to be dropped.
    unsafe {
        let arguments = Arguments::of(fcinfo);
        let statements = given(arguments.array(0, Element::Text), c"statements");
        let parameters = given(arguments.array(1, Element::Integer), c"parameters");
        let types = given(arguments.array(2, Element::Oid), c"types");
        let Some(calls) = arguments.text(3) else {
            out_of_range(c"calls", c"a bytea that is not NULL");
        };
        raw::SPI_connect();
        let count = execute(&statements, &parameters, &types, Calls(calls.bytes()));
        raw::SPI_finish();
        count.into()
    }
}

/// An array of one dimension without NULLs.
unsafe fn given(array: Option<Array>, name: &std::ffi::CStr) -> Array {
    let whole = |array: &Array| {
        array.shape.dimensions <= 1 && (0..array.len()).all(|i| array.get(i).is_some())
    };
    match array.filter(whole) {
        Some(array) => array,
        // SAFETY: nothing to drop.
        None => unsafe { out_of_range(name, c"an array of one dimension without NULL") },
    }
}

/// Executes what `calls` says; gives how much it was.
unsafe fn execute(
    statements: &Array,
    parameters: &Array,
    types: &Array,
    mut calls: Calls<'_>,
) -> i64 {
    // SAFETY: room for as many as are written before they are read. What a call needs is in a context of its own.
    unsafe {
        let inputs = raw::room::<Input>(types.len());
        for i in 0..types.len() {
            inputs.add(i).write(input(oid(types, i)));
        }
        let prepared = prepare(statements, parameters, types);
        let values = raw::room::<Datum>(types.len());
        let nulls = raw::room::<core::ffi::c_char>(types.len());
        let row = raw::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"execute_all".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as _,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as _,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as _,
        );
        let mut count = 0;
        while !calls.0.is_empty() {
            raw::check_for_interrupts();
            let which = usize::from(u16::from_be_bytes(calls.number()));
            if which >= statements.len() {
                malformed();
            }
            let statement = *prepared.add(which);
            let caller = pg_sys::MemoryContextSwitchTo(row);
            for n in 0..statement.parameters {
                let bytes = calls.value();
                values
                    .add(n)
                    .write(receive(&mut *inputs.add(statement.first + n), bytes));
                nulls
                    .add(n)
                    .write(if bytes.is_some() { b' ' } else { b'n' } as _);
            }
            pg_sys::MemoryContextSwitchTo(caller);
            let outcome = raw::SPI_execute_plan(statement.plan, values, nulls, false, 0);
            if outcome < 0 {
                refused();
            }
            raw::SPI_freetuptable(pg_sys::SPI_tuptable);
            raw::MemoryContextReset(row);
            count += 1;
        }
        count
    }
}

/// The statements' plans, and which of the types are whose.
unsafe fn prepare(statements: &Array, parameters: &Array, types: &Array) -> *const Statement {
    // SAFETY: as for `execute`; both arrays hold no NULL.
    unsafe {
        let mut first = 0;
        let prepared = raw::room::<Statement>(statements.len());
        for i in 0..statements.len() {
            let parameters = match parameters.get(i).map(|n| n.value() as i32) {
                Some(n) if n >= 0 && n as usize <= types.len() - first => n as usize,
                _ => out_of_range(
                    c"parameters",
                    c"one for each statement, as many as types in all",
                ),
            };
            let text = Text::of(statements.get(i).unwrap_or(Datum::from(0)));
            prepared.add(i).write(Statement {
                plan: plan(&text, types, first, parameters),
                first,
                parameters,
            });
            first += parameters;
        }
        if first != types.len() || parameters.len() != statements.len() {
            out_of_range(
                c"parameters",
                c"one for each statement, as many as types in all",
            );
        }
        prepared
    }
}

unsafe fn plan(text: &Text, types: &Array, first: usize, parameters: usize) -> SPIPlanPtr {
    // Built twice rather than held while Postgres may raise.
    let key = || {
        let types = (first..first + parameters).map(|i| oid(types, i).to_u32().to_ne_bytes());
        let mut key = types.flatten().collect::<Vec<u8>>();
        key.push(0);
        key.extend_from_slice(text.bytes());
        key
    };
    if let Some(plan) = KEPT.with_borrow(|kept| kept.get(&key()).copied()) {
        return plan;
    }
    // SAFETY: SPI is connected and copies what it is given.
    unsafe {
        let oids = raw::room::<Oid>(parameters);
        for n in 0..parameters {
            oids.add(n).write(oid(types, first + n));
        }
        let plan = raw::SPI_prepare(
            raw::text_to_cstring(text.datum.cast_mut_ptr()),
            parameters as _,
            oids,
        );
        if plan.is_null() {
            refused();
        }
        if KEPT.with_borrow(HashMap::len) < KEPT_PLANS && raw::SPI_keepplan(plan) == 0 {
            KEPT.with_borrow_mut(|kept| kept.insert(key(), plan));
        }
        plan
    }
}

fn oid(types: &Array, i: usize) -> Oid {
    types
        .get(i)
        .map_or(pg_sys::InvalidOid, |oid| Oid::from(oid.value() as u32))
}

unsafe fn input(kind: Oid) -> Input {
    // SAFETY: raises for what is no type, or has no binary format.
    unsafe {
        let type_id = pg_sys::SysCacheIdentifier::TYPEOID as _;
        let none = Datum::from(0);
        if raw::GetSysCacheOid(type_id, 1, kind.into(), none, none, none) == pg_sys::InvalidOid {
            out_of_range(c"types", c"oids of types");
        }
        let mut function = pg_sys::InvalidOid;
        let mut input = Input {
            function: pg_sys::FmgrInfo::default(),
            of: pg_sys::InvalidOid,
        };
        raw::getTypeBinaryInputInfo(kind, &raw mut function, &raw mut input.of);
        raw::fmgr_info(function, &raw mut input.function);
        input
    }
}

/// A value from its binary format, as Bind receives it.
unsafe fn receive(input: &mut Input, bytes: Option<&[u8]>) -> Datum {
    // SAFETY: the buffer is a copy in the row's memory with a NUL behind it, which receive functions may rely on.
    unsafe {
        let Some(bytes) = bytes else {
            return raw::ReceiveFunctionCall(
                &raw mut input.function,
                std::ptr::null_mut(),
                input.of,
                -1,
            );
        };
        let data = raw::room::<u8>(bytes.len() + 1);
        data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        data.add(bytes.len()).write(0);
        let mut buffer = pg_sys::StringInfoData {
            data: data.cast(),
            len: bytes.len() as _,
            maxlen: bytes.len() as i32 + 1,
            cursor: 0,
        };
        let value =
            raw::ReceiveFunctionCall(&raw mut input.function, &raw mut buffer, input.of, -1);
        if buffer.cursor != buffer.len {
            malformed();
        }
        value
    }
}

/// What is left of the calls.
struct Calls<'a>(&'a [u8]);

impl<'a> Calls<'a> {
    fn number<const N: usize>(&mut self) -> [u8; N] {
        let Some((number, rest)) = self.0.split_first_chunk() else {
            malformed();
        };
        self.0 = rest;
        *number
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let length = i32::from_be_bytes(self.number());
        if length == -1 {
            return None;
        }
        match usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
        {
            Some((value, rest)) => {
                self.0 = rest;
                Some(value)
            }
            None => malformed(),
        }
    }
}

fn malformed() -> ! {
    report(
        PgSqlErrorCode::ERRCODE_INVALID_BINARY_REPRESENTATION,
        "calls are malformed",
        Some(
            "Each is an int16, which statement, and for each of its parameters an int32, the length, and the value in binary format.",
        ),
    )
}

fn refused() -> ! {
    report(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "a statement cannot be executed by execute_all",
        Some("Send BEGIN, COMMIT, ROLLBACK, SAVEPOINT and COPY by themselves."),
    )
}
