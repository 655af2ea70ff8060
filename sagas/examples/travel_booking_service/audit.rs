//! Holds the provider's ledger against how the instances ended.

use std::collections::BTreeMap;

use mire_sagas::{Saga, SagaStatus};

use super::booking::TravelBooking;
use super::provider::Ledger;

const KINDS: [&str; 4] = ["flight", "hotel", "payment", "confirmation"];

/// Everything that does not fit, in words. Whatever was booked was booked once, with the key of the one activation there
/// was; for a completed trip all of it stands, for any other nothing.
pub(crate) fn discrepancies(
    ledger: &Ledger,
    outcomes: &BTreeMap<String, SagaStatus>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (trip, outcome) in outcomes {
        for kind in KINDS {
            let entries = ledger.get(&(kind.to_owned(), trip.clone()));
            let entries = entries.map_or(&[][..], Vec::as_slice);
            let standing = entries.iter().filter(|entry| !entry.cancelled).count();
            let wanted = usize::from(*outcome == SagaStatus::Completed);
            if standing != wanted {
                found.push(format!(
                    "trip {trip}, {outcome}: of the {kind} stand {standing} and not {wanted}"
                ));
            }
            let key = format!("{}/{trip}/{kind}/1/0", TravelBooking::NAME);
            if entries.len() > 1 || entries.iter().any(|entry| entry.key != key) {
                found.push(format!(
                    "trip {trip}, {outcome}: {kind} booked as {entries:?}"
                ));
            }
        }
    }
    let strangers = ledger
        .keys()
        .filter(|(_, trip)| !outcomes.contains_key(trip));
    found.extend(strangers.map(|(kind, trip)| format!("{kind} of unknown trip {trip}")));
    found
}
