//! Finds our own relations. Looked up at every use in Postgres's own caches: an Oid kept by us would outlive
//! `DROP EXTENSION` and a new `CREATE EXTENSION` in the same session.
#![allow(unsafe_code)]

use std::ffi::CStr;

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
