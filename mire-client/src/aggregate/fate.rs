//! [`Fate`]: what has become of a transaction, as the aggregates that were saved in it see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Shared by a transaction and the aggregates that were saved in it.
#[derive(Clone, Debug)]
pub(crate) struct Fate(Arc<AtomicU8>);

/// How a transaction ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ending {
    /// Not yet.
    Open,
    /// Committed.
    Committed,
    /// Nothing of it was committed, nor will be.
    Undone,
    /// Its COMMIT was sent, and nobody knows what came of it.
    Unknown,
}

impl Fate {
    pub(crate) fn open() -> Self {
        Self(Arc::new(AtomicU8::new(Ending::Open as u8)))
    }

    pub(crate) fn ends(&self, ending: Ending) {
        self.0.store(ending as u8, Ordering::Release);
    }

    pub(crate) fn ending(&self) -> Ending {
        const COMMITTED: u8 = Ending::Committed as u8;
        const UNDONE: u8 = Ending::Undone as u8;
        const UNKNOWN: u8 = Ending::Unknown as u8;
        match self.0.load(Ordering::Acquire) {
            COMMITTED => Ending::Committed,
            UNDONE => Ending::Undone,
            UNKNOWN => Ending::Unknown,
            _ => Ending::Open,
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
