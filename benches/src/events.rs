//! What is stored: bookings of about 150 bytes of JSON, and the ledger that is folded from them.

use anyhow::Result;
use mire_client::{Aggregate, EventData, Json, NewEvent};
use serde::{Deserialize, Serialize};

/// The type name that [`Booking::Made`] is stored under.
pub(crate) const TYPE: &str = "booking.made";

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "booking")]
pub(crate) enum Booking {
    Made {
        cents: i64,
        account: String,
        memo: String,
    },
}

/// An event's content, the same for everybody.
pub(crate) fn booking() -> Booking {
    Booking::Made {
        cents: 1,
        account: "NL91 ABNA 0417 1643 00".into(),
        memo: "An invoice that was paid in time, as all of them should be, and what it had been for: rent."
            .into(),
    }
}

/// The same as the store's clients send it.
pub(crate) fn new_event() -> Result<NewEvent> {
    Ok(NewEvent::new(&booking())?)
}

/// The same as JSON.
pub(crate) fn json() -> Result<Json> {
    Ok(booking().to_json()?)
}

/// Counts what it is given.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) bookings: usize,
    pub(crate) cents: i64,
}

impl Aggregate for Ledger {
    type Event = Booking;
    const CATEGORY: &'static str = "ledger";

    fn apply(&mut self, event: &Booking) {
        let Booking::Made { cents, .. } = event;
        self.bookings += 1;
        self.cents += cents;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_the_document_says() {
        assert_eq!(booking().kind().event_type, TYPE);
        let bytes = json().expect("a booking is JSON").as_str().len();
        assert!((140..=160).contains(&bytes), "{bytes} bytes");
    }
}
