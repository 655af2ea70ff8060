//! Reads the position sequence from its page: no privilege is needed, no snapshot, no transaction id.
#![allow(unsafe_code)]

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::catalog::{self, OpenRelation};

/// The only tuple of a sequence's page, as sequence.c lays it out.
#[repr(C)]
struct SequenceTuple {
    last_value: i64,
    log_cnt: i64,
    is_called: bool,
}

/// The highest value handed out; 0 when none was.
fn read(sequence: pg_sys::Oid) -> i64 {
    let relation = OpenRelation::open(sequence);
    // SAFETY: block 0 of a sequence always exists and holds exactly one tuple, at line pointer 1. The buffer is pinned
    // and share-locked while we copy out of it; nextval changes it under an exclusive lock.
    unsafe {
        let buffer = pg_sys::ReadBuffer(relation.as_ptr(), 0);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as _);
        let page = pg_sys::BufferGetPage(buffer).cast::<u8>();
        let item = page
            .add(std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp))
            .cast::<pg_sys::ItemIdData>();
        let tuple = page
            .add((*item).lp_off() as usize)
            .cast::<pg_sys::HeapTupleHeaderData>();
        let data = tuple
            .cast::<u8>()
            .add((*tuple).t_hoff as usize)
            .cast::<SequenceTuple>();
        let head = (*data).last_value - i64::from(!(*data).is_called);
        pg_sys::UnlockReleaseBuffer(buffer);
        head
    }
}

/// The highest position handed out so far; the next one drawn is larger.
pub(crate) fn head() -> i64 {
    read(catalog::relation(c"positions"))
}

/// [`head`], after a check that positions are handed out one by one: a cached one would be drawn outside of the lock of the
/// transaction that uses it.
pub(crate) fn head_for_append() -> i64 {
    const ANUM_SEQCACHE: i16 = 7;
    let sequence = catalog::relation(c"positions");
    // SAFETY: the tuple is pinned until it is released, and seqcache is a bigint passed by value that is never NULL.
    let cache = unsafe {
        let tuple =
            pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::SEQRELID as _, sequence.into());
        if tuple.is_null() {
            error!("mire.positions is not a sequence any more");
        }
        let mut is_null = false;
        let cache = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::SEQRELID as _,
            tuple,
            ANUM_SEQCACHE,
            &raw mut is_null,
        );
        pg_sys::ReleaseSysCache(tuple);
        cache.value() as i64
    };
    if cache != 1 {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("the sequence mire.positions has CACHE {cache}, and the feed is only safe with CACHE 1"),
            "begin_append",
        )
        .set_hint("ALTER SEQUENCE mire.positions CACHE 1")
        .report(PgLogLevel::ERROR);
    }
    read(sequence)
}

#[pg_extern(sql = false)]
fn head_position() -> i64 {
    head()
}
