//! Events: what a program says about its own ([`EventData`]), what it hands over ([`NewEvent`]), what comes back
//! ([`RecordedEvent`]), and what travels with them ([`Metadata`]).

mod content;
mod content_de;
mod data;
mod metadata;
mod new;
mod recorded;

pub use content::to_content;
pub use content_de::from_content;
pub use data::{EventData, EventKind, OldEvent};
pub use metadata::Metadata;
pub use new::NewEvent;
pub use recorded::RecordedEvent;

pub(crate) use recorded::{place_of, undecodable};

pub(crate) use data::{UnknownEvent, decode_stored, schema_of};
