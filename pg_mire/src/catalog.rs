//! Finds our own relations. Looked up at every use in Postgres's own caches: an Oid kept by us would outlive
//! `DROP EXTENSION` and a new `CREATE EXTENSION` in the same session.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// The Oid of `mire.name`.
pub(crate) fn relation(name: &CStr) -> pg_sys::Oid {
    // SAFETY: C strings that live through the calls; both are plain cache lookups.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"mire".as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    if oid == pg_sys::InvalidOid {
        error!(
            "pg_mire is not installed in this database: relation mire.{} is missing",
            name.to_string_lossy()
        );
    }
    oid
}

/// Columns that the native code reads by their places, in tables' order.
pub(crate) mod columns {
    use pgrx::pg_sys::{
        BOOLOID, INT4OID, INT8OID, JSONBOID, Oid, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, UUIDOID,
    };

    pub(crate) const STREAM_HEADS: [Oid; 6] =
        [INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, BOOLOID, TEXTOID];
    pub(crate) const EVENTS: [Oid; 9] = [
        INT8OID,
        INT8OID,
        INT8OID,
        UUIDOID,
        TIMESTAMPTZOID,
        TEXTOID,
        TEXTOID,
        JSONBOID,
        JSONBOID,
    ];
    pub(crate) const SNAPSHOTS: [Oid; 5] = [INT8OID, INT4OID, INT8OID, TIMESTAMPTZOID, JSONBOID];
    pub(crate) const SAGAS: [Oid; 16] = [
        INT8OID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        INT8OID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        INT4OID,
        INT4OID,
        BOOLOID,
        TEXTOID,
        TEXTOID,
        TEXTARRAYOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
    ];
    pub(crate) const OUTBOX: [Oid; 20] = [
        INT8OID,
        INT8OID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        TIMESTAMPTZOID,
        INT8OID,
        INT4OID,
        INT4OID,
        INT4OID,
        BOOLOID,
        BOOLOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        TEXTOID,
        JSONBOID,
    ];
}

/// Raises 55000 unless a row begins with columns of these types: a value that is taken for another kind is a crash.
///
/// # Safety
/// A descriptor; nothing to drop (see [`crate::raw`]).
pub(crate) unsafe fn assert_columns(descriptor: pg_sys::TupleDesc, types: &[pg_sys::Oid]) {
    for (column, expected) in (1..).zip(types) {
        // SAFETY: a column that there is not has no type.
        if unsafe { crate::raw::SPI_gettypeid(descriptor, column) } != *expected {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the columns of a table of the store were altered",
                "catalog",
            )
            .set_hint("Give the tables of schema mire the columns back that CREATE EXTENSION made.")
            .report(PgLogLevel::ERROR);
        }
    }
}

/// A relation held open under AccessShareLock. Dropping it closes the relation and releases the lock, so that a waiter
/// holds nothing while it sleeps; an error in between leaves both to the transaction's abort.
pub(crate) struct OpenRelation(pg_sys::Relation);

impl OpenRelation {
    pub(crate) fn open(oid: pg_sys::Oid) -> Self {
        // SAFETY: raises when the relation is gone; otherwise the descriptor stays valid until we close it.
        Self(unsafe { pg_sys::relation_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE) })
    }

    pub(crate) fn as_ptr(&self) -> pg_sys::Relation {
        self.0
    }
}

impl Drop for OpenRelation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by us with this very lock mode, and not closed before.
            unsafe { pg_sys::relation_close(self.0, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
        }
    }
}
