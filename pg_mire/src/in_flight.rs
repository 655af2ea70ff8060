//! In-flight positions as heavyweight locks: the ground the feed stands on.
//!
//! Positions are handed out before commit, so a later one can become visible first. A transaction that appends
//! therefore takes, *before* it draws its first position, a share lock whose tag carries the sequence's current value:
//! a lower bound of every position it will get. Share locks do not conflict, so nobody waits. Postgres releases the
//! lock after the transaction has become visible or has aborted; savepoints, PREPARE TRANSACTION (with a restart),
//! FATAL exits and crashes are all the lock manager's business.
//!
//! A reader takes the head of the sequence *first*, then the smallest bound among the locks, then a fresh snapshot.
//! Whoever drew a position at or below that head held its lock before the head was read, so everything up to
//! `min(head, smallest bound)` is settled for that snapshot.
#![allow(unsafe_code)]

use std::cell::Cell;

use pgrx::prelude::*;

use crate::{durability, positions, raw, settings};

/// Marks our locks among those of type LOCKTAG_USERLOCK, a type that no SQL function can take ("Mi" in ASCII).
/// The view feed_blockers names it too.
const FIELD: u16 = 0x4D69;

thread_local! {
    /// The lock this backend took last. Only the lock manager knows whether it is still held.
    static TAKEN: Cell<Option<pg_sys::LOCKTAG>> = const { Cell::new(None) };
    static SETTLED: Cell<i64> = const { Cell::new(0) };
}

/// To be called before the first position is drawn. Gives the lower bound of all that will be; None when the transaction has
/// begun to append before.
pub(crate) fn begin_append() -> Option<i64> {
    durability::make_durable();
    settings::bound_idle_append();
    hold_back_feed()
}

/// Takes the in-flight lock and gives its bound, unless this transaction has one already: that bound is lower, so it
/// covers what follows.
/// A savepoint that is rolled back takes its lock with it, hence the question to the lock manager.
fn hold_back_feed() -> Option<i64> {
    if TAKEN.get().is_some_and(|tag| held(&tag)) {
        return None;
    }
    let bound = positions::head_for_append().cast_unsigned();
    let tag = pg_sys::LOCKTAG {
        // SAFETY: set once when the backend connected.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.into(),
        locktag_field2: (bound >> 32) as u32,
        locktag_field3: bound as u32,
        locktag_field4: FIELD,
        locktag_type: pg_sys::LockTagType::LOCKTAG_USERLOCK as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    // SAFETY: the lock must belong to the (sub)transaction whose rows it protects. CurrentResourceOwner may be a
    // portal's: a cursor that fails inside a savepoint would drop the lock and keep the rows, and a reader would skip
    // them. When LockAcquire raises (lock table full), the abort resets CurrentResourceOwner itself.
    unsafe {
        let portal = pg_sys::CurrentResourceOwner;
        pg_sys::CurrentResourceOwner = pg_sys::CurTransactionResourceOwner;
        raw::LockAcquire(
            &raw const tag,
            pg_sys::ShareLock as pg_sys::LOCKMODE,
            false,
            false,
        );
        pg_sys::CurrentResourceOwner = portal;
    }
    TAKEN.set(Some(tag));
    Some(bound.cast_signed())
}

fn held(tag: &pg_sys::LOCKTAG) -> bool {
    let mode = pg_sys::ShareLock as pg_sys::LOCKMODE;
    // SAFETY: looks the tag up in this backend's own lock table.
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    return unsafe { raw::LockHeldByMe(tag, mode) };
    // SAFETY: as above.
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    return unsafe { raw::LockHeldByMe(tag, mode, false) };
}

/// The smallest bound among the open appends of this database.
fn smallest_bound() -> Option<i64> {
    // SAFETY: GetLockStatusData gives a palloc'd copy of the lock table, which nobody else sees; we free it.
    unsafe {
        let database: u32 = pg_sys::MyDatabaseId.into();
        let data = pg_sys::GetLockStatusData();
        let locks = std::slice::from_raw_parts((*data).locks, (*data).nelements as usize);
        let smallest = locks
            .iter()
            .map(|lock| &lock.locktag)
            .filter(|tag| {
                tag.locktag_type == pg_sys::LockTagType::LOCKTAG_USERLOCK as u8
                    && tag.locktag_field4 == FIELD
                    && tag.locktag_field1 == database
            })
            .map(|tag| {
                ((u64::from(tag.locktag_field2) << 32) | u64::from(tag.locktag_field3))
                    .cast_signed()
            })
            .min();
        pg_sys::pfree((*data).locks.cast());
        pg_sys::pfree(data.cast());
        smallest
    }
}

/// The position up to which everything is settled for a snapshot taken after this call. The order of the two reads is
/// what makes it true.
pub(crate) fn settled() -> i64 {
    let head = positions::head();
    let settled = smallest_bound().map_or(head, |bound| bound.min(head));
    SETTLED.set(settled);
    settled
}

/// What [`settled`] said last in this backend.
pub(crate) fn last_settled() -> i64 {
    SETTLED.get()
}

#[pg_extern(sql = false)]
fn settled_position() -> i64 {
    settled()
}
