//! Plans that were made while a table was small.
//!
//! A plan that is kept says for ever how to read a table, and for one of a single page the best way is from end to end.
//! PostgreSQL makes plans anew when ANALYZE has looked at the table, which is a minute after it has begun to grow: just the
//! minute in which requests pile up because somebody does not answer. So whoever makes a table grow tells all sessions, in the
//! way ANALYZE does: at every doubling of what the catalog says, once a session, when the transaction commits.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys::{BlockNumber, Oid, Relation};

use crate::raw;

/// A table of fewer pages is read fast in whatever way.
const SMALL: BlockNumber = 16;

/// What this session has told about a table.
#[derive(Clone, Copy)]
struct Told {
    /// What the catalog said then.
    pages: i32,
    /// Time to tell again.
    next: BlockNumber,
}

thread_local! {
    static TOLD: RefCell<HashMap<Oid, Told>> = RefCell::default();
}

/// To be called when rows have been written up to this page of a table.
///
/// # Safety
/// The table is open; nothing to drop (see [`raw`]).
pub(super) unsafe fn look(table: Relation, page: BlockNumber) {
    if page < SMALL {
        return;
    }
    // SAFETY: an open relation has its row of the catalog.
    let (id, pages) = unsafe { ((*table).rd_id, (*(*table).rd_rel).relpages) };
    let outgrown = TOLD.with_borrow_mut(|told| {
        let next = SMALL.max(pages.unsigned_abs().saturating_mul(2));
        let told = told.entry(id).or_insert(Told { pages, next });
        if told.pages != pages {
            *told = Told { pages, next };
        }
        let outgrown = page >= told.next;
        if outgrown {
            told.next = page.saturating_mul(2);
        }
        outgrown
    });
    if outgrown {
        // SAFETY: the table is open, and nothing here needs to be dropped.
        unsafe { raw::CacheInvalidateRelcache(table) };
    }
}
