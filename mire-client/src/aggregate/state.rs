//! [`Aggregate`]: a state that is nothing but the fold of its events.

use std::fmt::Display;

use crate::event::EventData;

/// A consistency boundary: its state is folded from the events of one stream, `CATEGORY-id`.
///
/// ```
/// use mire_client::{Aggregate, EventData};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, EventData)]
/// #[event_data(entity = "account")]
/// enum AccountEvent {
///     Deposited { cents: i64 },
/// }
///
/// #[derive(Debug, Default)]
/// struct Account {
///     cents: i64,
/// }
///
/// impl Aggregate for Account {
///     type Event = AccountEvent;
///     const CATEGORY: &'static str = "account";
///
///     fn apply(&mut self, event: &AccountEvent) {
///         match event {
///             AccountEvent::Deposited { cents } => self.cents += cents,
///         }
///     }
/// }
/// ```
pub trait Aggregate: Default + Send + Sync + 'static {
    /// Its events.
    type Event: EventData;

    /// The first part of its streams' names, up to the first `-`: so it holds no `-` itself.
    const CATEGORY: &'static str;

    /// Folds one event into the state. What has happened cannot be refused: decide in a [`Command`](crate::Command).
    fn apply(&mut self, event: &Self::Event);
}

/// The name of the stream of the aggregate with this id.
#[must_use]
pub fn stream_name<A: Aggregate>(id: impl Display) -> String {
    const {
        assert!(
            !contains_dash(A::CATEGORY),
            "a category holds no `-`: it ends at the first one of a stream's name"
        )
    };
    format!("{}-{id}", A::CATEGORY)
}

const fn contains_dash(category: &str) -> bool {
    let bytes = category.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'-' {
            return true;
        }
        i += 1;
    }
    false
}
