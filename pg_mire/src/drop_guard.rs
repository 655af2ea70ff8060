//! Refuses to drop a log by accident.
//!
//! `DROP EXTENSION` drops member tables without CASCADE, and a CASCADE from elsewhere (say, of a language) can reach
//! the extension. An event trigger of ours tells, before any DROP begins, which table is the log; this hook then sees
//! every object that is about to go, whatever the command was, and refuses that one while it holds events. It looks when
//! the DROP has its lock, with the latest snapshot, so that nothing can be committed in between. (A `sql_drop` trigger
//! would be gone by the time it should fire.)
#![allow(unsafe_code)]

use std::cell::Cell;

use pgrx::prelude::*;

use crate::settings;

thread_local! {
    /// The table of events.
    static GUARDED: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

/// Installs the hook; called once when the library is loaded.
pub(crate) fn install() {
    // SAFETY: runs once in _PG_init, on the backend's only thread, before the hook can be called.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(on_access);
    }
}

#[pg_extern(sql = false)]
fn arm_drop_guard(events: pg_sys::Oid) {
    GUARDED.set(Some(events));
}

#[pg_guard]
unsafe extern "C-unwind" fn on_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    arg: *mut core::ffi::c_void,
) {
    // SAFETY: PREVIOUS is written once, before this function is reachable; the arguments are passed on unchanged.
    unsafe {
        #[allow(static_mut_refs)]
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, sub_object, arg);
        }
    }
    if access == pg_sys::ObjectAccessType::OAT_DROP
        && sub_object == 0
        && class == pg_sys::RelationRelationId
        && GUARDED.get() == Some(object)
        && !settings::drop_with_events_allowed()
        && holds_events(object)
    {
        refuse();
    }
}

fn holds_events(events: pg_sys::Oid) -> bool {
    // SAFETY: the command that drops the table holds its exclusive lock, and its catalog rows are still there. The scan
    // reads the heap alone (no index), and everything is closed again.
    unsafe {
        let relation = pg_sys::table_open(events, pg_sys::NoLock as pg_sys::LOCKMODE);
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            snapshot,
            0,
            std::ptr::null_mut(),
        );
        let found = !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        found
    }
}

fn refuse() -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
        "this would drop mire.events, which holds events",
        "drop_guard",
    )
    .set_hint("Dump the database first. If the log is really to be destroyed: SET mire.allow_drop_with_events = on, then drop again.")
    .report(PgLogLevel::ERROR);
    unreachable!("an error was reported")
}
