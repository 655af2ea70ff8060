//! Events as they come back from the store.

use std::time::SystemTime;

use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{EventData, Metadata, UnknownEvent, decode_stored, schema_of};
use crate::error::{Error, ErrorKind, Result};
use crate::json::{Json, JsonRef};

/// An event that has been recorded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordedEvent {
    /// Its place in the feed: unique, 1-based and increasing, not dense.
    pub position: i64,
    /// The stream it belongs to.
    pub stream: String,
    /// Its place in the stream: 1, 2, 3, …
    pub version: i64,
    /// Its id.
    pub id: Uuid,
    /// Its stored type name. Names that begin with `$` are the store's own tombstones.
    pub event_type: String,
    /// When the database recorded it.
    pub recorded_at: SystemTime,
    /// Its data.
    pub data: Json,
    /// Its metadata as stored.
    pub metadata: Option<Json>,
}

impl RecordedEvent {
    /// Reads it as one of the events of `E`, upcast if it has an older name or shape.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is none of them, or its data does not fit.
    pub fn decode<E: EventData>(&self) -> Result<E> {
        schema_of(
            self.metadata
                .as_ref()
                .map(|json| JsonRef(json.as_str().as_bytes())),
        )
        .map_err(Into::into)
        .and_then(|schema| {
            decode_stored(
                &self.event_type,
                schema,
                JsonRef(self.data.as_str().as_bytes()),
            )
        })
        .map_err(|e| undecodable(&self.stream, self.version, &self.event_type, e))
    }

    /// Reads its data as any type, whatever its name.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the data does not fit.
    pub fn data_as<T: DeserializeOwned>(&self) -> Result<T> {
        self.data
            .to()
            .map_err(|e| undecodable(&self.stream, self.version, &self.event_type, e))
    }

    /// Its metadata; empty when it was recorded with none.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when somebody stored `correlation_id`, `causation_id` or `actor` as no string.
    pub fn metadata(&self) -> Result<Metadata> {
        self.metadata
            .as_ref()
            .map_or_else(|| Ok(Metadata::new()), Metadata::from_json)
    }

    /// Whether this is one of the store's own events (`$stream_deleted`, `$stream_truncated`).
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.event_type.starts_with('$')
    }

    /// From a row of `position, version, event_id, type, recorded_at, data, metadata`, beginning at column `first`.
    pub(crate) fn from_row(row: &Row, first: usize, stream: String) -> Result<Self> {
        let read = || -> std::result::Result<Self, crate::BoxError> {
            Ok(Self {
                position: row.try_get(first)?,
                stream,
                version: row.try_get(first + 1)?,
                id: row.try_get(first + 2)?,
                event_type: row.try_get(first + 3)?,
                recorded_at: row.try_get(first + 4)?,
                data: row.try_get::<_, JsonRef<'_>>(first + 5)?.to_owned()?,
                metadata: row
                    .try_get::<_, Option<JsonRef<'_>>>(first + 6)?
                    .map(JsonRef::to_owned)
                    .transpose()?,
            })
        };
        read().map_err(|e| {
            Error::with_source(
                ErrorKind::Decode {
                    what: "a row of events".into(),
                },
                e,
            )
        })
    }
}

/// The message says what does not fit and where, but nothing of the data: messages end up in logs. The source says more.
pub(crate) fn undecodable(
    stream: &str,
    version: i64,
    event_type: &str,
    source: impl Into<crate::BoxError>,
) -> Error {
    let source = source.into();
    let why = if let Some(unknown) = source.downcast_ref::<UnknownEvent>() {
        unknown.to_string()
    } else if let Some(json) = source.downcast_ref::<serde_json::Error>() {
        format!("its data does not fit ({})", place_of(json))
    } else {
        "see the source of this error".to_owned()
    };
    let what = format!("event {event_type:?} (version {version} of stream {stream:?}): {why}");
    Error::with_source(ErrorKind::Decode { what }, source)
}

/// What kind of error it is and where, without what was met there.
pub(crate) fn place_of(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}
