//! [`EventData`]: how a Rust type and stored events of certain names and shapes belong together, over the years.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::BoxError;
use crate::json::JsonRef;

/// A name under which events are stored, and which shape they have today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind {
    /// The stored type name: `account.opened`.
    pub event_type: &'static str,
    /// The version of today's shape, 1 or more. Above 1 it is written to the event's metadata as `$schema`.
    pub schema: u32,
    /// Names under which the same shape was stored earlier.
    pub aliases: &'static [&'static str],
}

/// A type whose values are stored as events. Derive it:
///
/// ```
/// use mire_client::EventData;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, EventData)]
/// #[event_data(entity = "account")]
/// enum AccountEvent {
///     Opened { owner: String },                       // account.opened
///     MoneyDeposited { cents: i64 },                  // account.money-deposited
///     #[event_data(rename = "shut")]
///     Closed,                                         // account.shut
/// }
///
/// let event = AccountEvent::MoneyDeposited { cents: 500 };
/// assert_eq!(event.kind().event_type, "account.money-deposited");
/// assert_eq!(event.to_json()?.as_str(), r#"{"cents":500}"#);
/// # Ok::<(), mire_client::Error>(())
/// ```
///
/// # Names
///
/// An enum's events are called *entity*`.`*variant*, the variant in kebab-case; `rename` replaces the part after the
/// dot. A struct is one event, called by its name in kebab-case (after `entity` and a dot, if given) or exactly by
/// `event_type`. Renaming a Rust variant changes the stored name: keep the old one with `rename`, or go on reading it
/// with `alias`.
///
/// | attribute | on | means |
/// |---|---|---|
/// | `entity = "account"` | enum (required), struct | the part before the dot |
/// | `rename = "shut"` | variant, struct | the part after the dot |
/// | `event_type = "payment-received"` | variant, struct | the whole name, with no prefix |
/// | `alias = "account.terminated"` | variant, struct; repeatable | an older name of the same shape |
/// | `schema = 2` | variant, struct | the version of today's shape; 1 if not given |
/// | `upcast = path::to::function` | enum, struct | turns older shapes into today's |
///
/// Stored is a variant's content alone, without the variant's name; serde's attributes on fields apply as usual.
///
/// # Older shapes
///
/// When a shape changes so that old JSON no longer fits, raise `schema` and give `upcast`: it is called for every
/// stored event that is not of a name and schema version known today, and returns one that is (or a step nearer: it
/// is called again).
///
/// ```
/// use mire_client::{BoxError, EventData, OldEvent};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
/// #[event_data(entity = "account", upcast = upcast)]
/// enum AccountEvent {
///     #[event_data(schema = 2)]
///     Deposited { cents: i64 }, // schema 1 had {"euros": 5.0}
/// }
///
/// fn upcast(mut old: OldEvent) -> Result<OldEvent, BoxError> {
///     if old.event_type == "account.deposited" && old.schema == 1 {
///         let euros = old.data["euros"].as_f64().ok_or("no euros")?;
///         old.data = serde_json::json!({ "cents": (euros * 100.0).round() });
///         old.schema = 2;
///     }
///     Ok(old)
/// }
///
/// let old = OldEvent::new("account.deposited", 1, serde_json::json!({"euros": 5.0}));
/// # Ok::<(), BoxError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event type",
    note = "add `#[derive(Serialize, Deserialize, EventData)]` and, on an enum, `#[event_data(entity = \"…\")]`"
)]
pub trait EventData: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Every kind of event of this type, as stored today.
    const KINDS: &'static [EventKind];

    /// Which of [`KINDS`](Self::KINDS) this value is.
    fn kind_index(&self) -> usize;

    /// Which of [`KINDS`](Self::KINDS) this value is.
    fn kind(&self) -> &'static EventKind {
        &Self::KINDS[self.kind_index()]
    }

    /// The stored JSON of this value.
    ///
    /// # Errors
    /// When serde cannot serialise it, or it holds a U+0000.
    fn to_json(&self) -> crate::Result<crate::Json>;

    /// Reads the stored JSON of the kind with this index.
    ///
    /// # Errors
    /// When the JSON does not fit.
    fn from_json(kind_index: usize, json: &[u8]) -> Result<Self, serde_json::Error>;

    /// Turns an event of an older name or schema version into today's shape, or a step nearer to it.
    ///
    /// # Errors
    /// Whatever the function sees fit: the event cannot be read then, and loading fails.
    fn upcast(old: OldEvent) -> Result<OldEvent, BoxError> {
        Ok(old)
    }
}

/// A stored event of an older name or shape, on its way to today's.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OldEvent {
    /// The stored type name.
    pub event_type: String,
    /// The schema version it was stored with; 1 if none was.
    pub schema: u32,
    /// The stored JSON.
    pub data: Value,
}

impl OldEvent {
    /// An old event, for testing an upcaster.
    #[must_use]
    pub fn new(event_type: impl Into<String>, schema: u32, data: Value) -> Self {
        Self {
            event_type: event_type.into(),
            schema,
            data,
        }
    }
}

/// An upcaster that goes in circles is stopped after so many steps.
const MAX_UPCASTS: usize = 32;

/// Reads a stored event as `E`; the fast path touches no tree.
pub(crate) fn decode_stored<E: EventData>(
    event_type: &str,
    schema: u32,
    data: JsonRef<'_>,
) -> Result<E, BoxError> {
    if let Some(index) = find::<E>(event_type, schema) {
        return Ok(E::from_json(index, data.0)?);
    }
    let mut old = OldEvent::new(event_type, schema, serde_json::from_slice(data.0)?);
    for _ in 0..MAX_UPCASTS {
        let before = (old.event_type.clone(), old.schema);
        old = E::upcast(old)?;
        if let Some(index) = find::<E>(&old.event_type, old.schema) {
            return Ok(E::from_json(index, &serde_json::to_vec(&old.data)?)?);
        }
        if before == (old.event_type.clone(), old.schema) {
            break;
        }
    }
    Err(UnknownEvent(unknown::<E>(&old.event_type, old.schema)).into())
}

fn find<E: EventData>(event_type: &str, schema: u32) -> Option<usize> {
    E::KINDS.iter().position(|kind| {
        kind.schema == schema
            && (kind.event_type == event_type || kind.aliases.contains(&event_type))
    })
}

/// A stored event that the type asked for does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnknownEvent(String);

fn unknown<E: EventData>(event_type: &str, schema: u32) -> String {
    let this = std::any::type_name::<E>();
    match E::KINDS.iter().find(|kind| kind.event_type == event_type) {
        Some(kind) if schema > kind.schema => format!(
            "event type {event_type:?} has schema version {schema}, but this program knows only up to {}: \
             was it written by a newer version?",
            kind.schema
        ),
        Some(kind) => format!(
            "event type {event_type:?} has schema version {schema}, and the upcaster of {this} does not turn it into {}",
            kind.schema
        ),
        None => format!(
            "{this} has no event type {event_type:?}; keep old names with `alias`, old shapes with `upcast`"
        ),
    }
}

/// The schema version in an event's metadata; 1 when there is none.
pub(crate) fn schema_of(metadata: Option<JsonRef<'_>>) -> Result<u32, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Schema {
        #[serde(rename = "$schema", default = "first")]
        schema: u32,
    }
    fn first() -> u32 {
        1
    }
    match metadata {
        // Most events have no schema version above 1: a search is cheaper than a parse.
        Some(json)
            if json
                .0
                .windows(SCHEMA_KEY.len())
                .any(|w| w == SCHEMA_KEY.as_bytes()) =>
        {
            Ok(serde_json::from_slice::<Schema>(json.0)?.schema)
        }
        _ => Ok(1),
    }
}

/// The metadata key of an event's schema version.
pub(crate) const SCHEMA_KEY: &str = "$schema";
