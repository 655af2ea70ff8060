//! The settings `mire.*`, and how an append tightens settings of Postgres for its own transaction.
//!
//! Limits can be changed by superusers only. The idle bound is a safety net and no lock: a session may set
//! idle_in_transaction_session_timeout again after its append, and a function with a SET clause for it restores it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static MAX_EVENT_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);
static MAX_EVENTS_PER_CALL: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static MAX_NAME_BYTES: GucSetting<i32> = GucSetting::<i32>::new(512);
static SCAN_BUDGET: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static IDLE_APPEND_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static ALLOW_ASYNC_COMMIT: GucSetting<bool> = GucSetting::<bool>::new(false);
static ALLOW_DROP_WITH_EVENTS: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Registers the settings; called once when the library is loaded.
pub(crate) fn define() {
    let limit = |name, short, long, setting, min, max, flags| {
        GucRegistry::define_int_guc(
            name,
            short,
            long,
            setting,
            min,
            max,
            GucContext::Suset,
            flags,
        );
    };
    limit(
        c"mire.max_event_bytes",
        c"Largest event that append accepts",
        c"Bytes of data and metadata together, as jsonb before compression.",
        &MAX_EVENT_BYTES,
        64,
        256 * 1024 * 1024,
        GucFlags::UNIT_BYTE,
    );
    limit(
        c"mire.max_events_per_call",
        c"Most events in one call of append or append_batch",
        c"A transaction may make as many calls as it likes.",
        &MAX_EVENTS_PER_CALL,
        1,
        1_000_000,
        GucFlags::default(),
    );
    limit(
        c"mire.max_name_bytes",
        c"Longest name of a stream, event type, resource or holder",
        c"Bytes of UTF-8.",
        &MAX_NAME_BYTES,
        1,
        2_000,
        GucFlags::default(),
    );
    limit(
        c"mire.scan_budget",
        c"Most index entries that a filtered read of the feed looks at in one call",
        c"The read tells how far it looked (next_position), also when nothing matched.",
        &SCAN_BUDGET,
        1,
        100_000_000,
        GucFlags::default(),
    );
    limit(
        c"mire.idle_append_timeout",
        c"Longest that a transaction which has appended may sit idle",
        c"Bounds idle_in_transaction_session_timeout for that transaction, because it holds the feed back; 0 lifts the bound.",
        &IDLE_APPEND_TIMEOUT,
        0,
        i32::MAX,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"mire.allow_async_commit",
        c"Lets synchronous_commit = off stand in appends",
        c"Acknowledged events may then be lost in a crash, and their positions be given to others: readers that saw them are wrong for ever.",
        &ALLOW_ASYNC_COMMIT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"mire.allow_drop_with_events",
        c"Lets DROP EXTENSION pg_mire destroy a log that holds events",
        c"Set it in the session that drops; never in a configuration file.",
        &ALLOW_DROP_WITH_EVENTS,
        GucContext::Suset,
        GucFlags::DISALLOW_IN_FILE,
    );
    #[cfg(not(feature = "pg14"))]
    // SAFETY: a static C string, which Postgres copies.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"mire".as_ptr());
    }
}

/// Whether the user has said that the log may go with the extension.
pub(crate) fn drop_with_events_allowed() -> bool {
    ALLOW_DROP_WITH_EVENTS.get()
}

#[pg_extern(sql = false)]
fn setting(name: &str) -> i64 {
    i64::from(match name {
        "max_event_bytes" => MAX_EVENT_BYTES.get(),
        "max_events_per_call" => MAX_EVENTS_PER_CALL.get(),
        "max_name_bytes" => MAX_NAME_BYTES.get(),
        "scan_budget" => SCAN_BUDGET.get(),
        _ => error!("pg_mire has no numeric setting \"{name}\""),
    })
}

/// Bytes of data and metadata together.
pub(crate) fn max_event_bytes() -> usize {
    MAX_EVENT_BYTES.get() as usize
}

pub(crate) fn max_events_per_call() -> usize {
    MAX_EVENTS_PER_CALL.get() as usize
}

pub(crate) fn max_name_bytes() -> usize {
    MAX_NAME_BYTES.get() as usize
}

/// The most index entries that a filtered read looks at.
pub(crate) fn scan_budget() -> i64 {
    i64::from(SCAN_BUDGET.get())
}

/// Whether synchronous_commit = off may stand.
pub(crate) fn async_commit_allowed() -> bool {
    ALLOW_ASYNC_COMMIT.get()
}

/// Lowers idle_in_transaction_session_timeout to at most `milliseconds` for this transaction; never raises it.
#[pg_extern(sql = false)]
fn bound_idle(milliseconds: i64) {
    // SAFETY: a plain integer that only this thread writes.
    let current = i64::from(unsafe { pg_sys::IdleInTransactionSessionTimeout });
    let bound = milliseconds.clamp(1, i64::from(i32::MAX));
    if current == 0 || current > bound {
        let bound = CString::new(bound.to_string()).expect("digits hold no NUL");
        set_local(c"idle_in_transaction_session_timeout", &bound);
    }
}

/// An open append holds the feed back: an abandoned one must not do so for ever.
pub(crate) fn bound_idle_append() {
    let bound = IDLE_APPEND_TIMEOUT.get();
    if bound > 0 {
        bound_idle(i64::from(bound));
    }
}

pub(crate) fn set_local(name: &CStr, value: &CStr) {
    // SAFETY: both strings live through the call, and Postgres copies them. GUC_ACTION_LOCAL lasts until the
    // transaction ends, or its savepoint is rolled back together with what was written since.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}
