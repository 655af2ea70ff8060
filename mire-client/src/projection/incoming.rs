//! What a handler is given: stored events, read as the types it asks for.

use std::any::Any;

use crate::error::Result;
use crate::event::{EventData, RecordedEvent};

/// An event on its way to a handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming<'a, E> {
    /// The event, as the handler's type.
    pub event: E,
    /// All that the store knows about it: position, stream, version, id, time, metadata.
    pub recorded: &'a RecordedEvent,
    /// 1 at first; more when the handler failed on it before, as far as this process knows.
    pub attempt: u32,
}

impl<E> Incoming<'_, E> {
    /// The id of the aggregate it belongs to: the stream's name after its category.
    #[must_use]
    pub fn id(&self) -> &str {
        let stream = self.recorded.stream.as_str();
        stream.split_once('-').map_or(stream, |(_, id)| id)
    }
}

/// What a handler can ask for: the events of an aggregate (any [`EventData`]), of several
/// ([`projected_events!`](crate::projected_events)), or [`Raw`] ones.
pub trait ProjectedEvent: Sized + Send + Sync + 'static {
    /// Reads a stored event as one of these. None: its type is none of these.
    ///
    /// # Errors
    /// When it is one of these and its data does not fit, or is of a newer schema.
    fn from_recorded(event: &RecordedEvent) -> Result<Option<Self>>;

    /// Whether the store's own tombstones (`$stream_deleted`, `$stream_truncated`) are handed over as well.
    const TOMBSTONES: bool = false;
}

/// Events as they are stored, tombstones included: all there is to say is in [`Incoming::recorded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw;

impl ProjectedEvent for Raw {
    fn from_recorded(_: &RecordedEvent) -> Result<Option<Self>> {
        Ok(Some(Self))
    }

    const TOMBSTONES: bool = true;
}

impl<E: EventData> ProjectedEvent for E {
    fn from_recorded(event: &RecordedEvent) -> Result<Option<Self>> {
        match event.decode::<E>() {
            Ok(event) => Ok(Some(event)),
            // A type that is known in another schema version is an event of these that cannot be read.
            Err(error) if error.is_unknown_event() && !is_named::<E>(&event.event_type) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_named<E: EventData>(event_type: &str) -> bool {
    E::KINDS
        .iter()
        .any(|kind| kind.event_type == event_type || kind.aliases.contains(&event_type))
}

/// Makes an enum of the events of several aggregates, for a handler that follows them all.
///
/// ```
/// # use mire_client::{EventData, projected_events};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(entity = "order")]
/// # enum OrderEvent { Placed { cents: i64 } }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(entity = "account")]
/// # enum AccountEvent { Opened { owner: String } }
/// projected_events! {
///     /// What happens in the shop.
///     pub enum ShopEvent {
///         /// Something about an order.
///         Order(OrderEvent),
///         /// Something about an account.
///         Account(AccountEvent),
///     }
/// }
/// ```
#[macro_export]
macro_rules! projected_events {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident($event:ty)),+ $(,)? }) => {
        $(#[$meta])*
        $vis enum $name { $($(#[$variant_meta])* $variant($event)),+ }

        impl $crate::ProjectedEvent for $name {
            fn from_recorded(event: &$crate::RecordedEvent) -> $crate::Result<Option<Self>> {
                $(
                    if let Some(event) = <$event as $crate::ProjectedEvent>::from_recorded(event)? {
                        return Ok(Some(Self::$variant(event)));
                    }
                )+
                Ok(None)
            }
        }
    };
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
