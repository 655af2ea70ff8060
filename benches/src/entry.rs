//! What is stored: entries of a ledger, as small as in mire's own benchmark or about 150 bytes of JSON.

use anyhow::Result;
use mire_client::{Aggregate, EventData, Json, NewEvent, Snapshot};
use serde::{Deserialize, Serialize};

/// The category of what is loaded and saved.
pub(crate) const CATEGORY: &str = "ledger";

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// That of mire's own benchmark: one number.
    Small,
    /// About 150 bytes of JSON.
    Booking,
}

/// An entry as this store's clients hold it.
#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "ledger")]
pub(crate) enum Entry {
    Incremented {
        by: i64,
    },
    Booked {
        by: i64,
        account: String,
        memo: String,
    },
}

pub(crate) const ACCOUNT: &str = "NL91 ABNA 0417 1643 00";
pub(crate) const MEMO: &str =
    "An invoice that was paid in time, as all of them should be, and what it had been for: rent.";

impl Content {
    pub(crate) fn entry(self) -> Entry {
        match self {
            Self::Small => Entry::Incremented { by: 1 },
            Self::Booking => Entry::Booked {
                by: 1,
                account: ACCOUNT.into(),
                memo: MEMO.into(),
            },
        }
    }

    /// The type name that it is stored under.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Small => "ledger.incremented",
            Self::Booking => "ledger.booked",
        }
    }

    /// As the store's clients send it.
    pub(crate) fn new_event(self) -> Result<NewEvent> {
        Ok(NewEvent::new(&self.entry())?)
    }

    /// As JSON.
    pub(crate) fn json(self) -> Result<Json> {
        Ok(self.entry().to_json()?)
    }
}

impl Entry {
    pub(crate) fn by(&self) -> i64 {
        match self {
            Self::Incremented { by } | Self::Booked { by, .. } => *by,
        }
    }
}

/// Adds up what it is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) total: i64,
}

impl Aggregate for Ledger {
    type Event = Entry;
    const CATEGORY: &'static str = CATEGORY;

    fn apply(&mut self, event: &Entry) {
        self.total += event.by();
    }
}

impl Snapshot for Ledger {
    const SCHEMA_VERSION: i32 = 1;
    const EVERY: i64 = 100;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_the_document_says() {
        for content in [Content::Small, Content::Booking] {
            assert_eq!(content.entry().kind().event_type, content.kind());
        }
        let bytes = Content::Booking
            .json()
            .expect("a booking is JSON")
            .as_str()
            .len();
        assert!((140..=160).contains(&bytes), "{bytes} bytes");
    }
}
