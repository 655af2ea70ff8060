//! Events that are about to be appended.

use uuid::Uuid;

use super::{EventData, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;

/// An event to append, already serialised, with its id: appending the very same value again is what makes a retry safe.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    pub(crate) id: Uuid,
    pub(crate) event_type: String,
    pub(crate) schema: u32,
    pub(crate) data: Json,
    pub(crate) metadata: Option<Json>,
}

impl NewEvent {
    /// An event with a fresh, time-ordered id.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when it cannot be JSON, [`ErrorKind::Invalid`] when it holds a U+0000.
    pub fn new<E: EventData>(event: &E) -> Result<Self> {
        Self::build(Uuid::now_v7(), event, None)
    }

    /// An event without a Rust type of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when `data` cannot be JSON, [`ErrorKind::Invalid`] when it holds a U+0000.
    pub fn untyped(event_type: impl Into<String>, data: &impl serde::Serialize) -> Result<Self> {
        let data = Json::new(data)?;
        Ok(Self {
            id: Uuid::now_v7(),
            event_type: event_type.into(),
            schema: 1,
            data,
            metadata: None,
        })
    }

    pub(crate) fn build<E: EventData>(
        id: Uuid,
        event: &E,
        metadata: Option<&Metadata>,
    ) -> Result<Self> {
        let kind = event.kind();
        let data = event.to_json().map_err(|e| match e.kind() {
            ErrorKind::Encode { .. } => Error::with_source(
                ErrorKind::Encode {
                    what: format!("event {:?}", kind.event_type),
                },
                e,
            ),
            _ => e,
        })?;
        let metadata = Metadata::to_json(metadata, kind.schema)?;
        Ok(Self {
            id,
            event_type: kind.event_type.to_owned(),
            schema: kind.schema,
            data,
            metadata,
        })
    }

    /// Uses this id instead of a fresh one.
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Attaches metadata, replacing what was attached before.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it holds a U+0000.
    pub fn with_metadata(mut self, metadata: &Metadata) -> Result<Self> {
        self.metadata = Metadata::to_json(Some(metadata), self.schema)?;
        Ok(self)
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The stored type name.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Roughly the bytes it takes on the wire.
    pub(crate) fn weight(&self) -> usize {
        const FRAMING: usize = 32;
        FRAMING
            + self.event_type.len()
            + self.data.as_str().len()
            + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
    }
}
