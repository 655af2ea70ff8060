//! What travels with an event besides its data: where it came from, who caused it, and whatever else one likes.

use std::fmt::Display;

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::data::SCHEMA_KEY;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;

/// Metadata of events. The named fields have fixed keys in the stored JSON: `correlation_id`, `causation_id`, `actor`.
/// Keys that begin with `$` are the store's own: read as `Metadata` they are left out, so that handing on another event's
/// metadata hands on nothing that is about that event's shape.
///
/// ```
/// use mire_client::Metadata;
///
/// let metadata = Metadata::new().correlation_id("order-17").actor("alice").with("tenant", &7)?;
/// assert_eq!(metadata.get::<u32>("tenant")?, Some(7));
/// # Ok::<(), mire_client::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(flatten, deserialize_with = "free_fields")]
    fields: Map<String, Value>,
}

fn free_fields<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    let mut fields = Map::deserialize(from)?;
    fields.retain(|key, _| !is_reserved(key));
    Ok(fields)
}

fn is_reserved(key: &str) -> bool {
    key.starts_with('$')
}

const NAMED: [&str; 3] = ["correlation_id", "causation_id", "actor"];

impl Metadata {
    /// No metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The conversation this event belongs to: the same for everything that one outside request set in motion.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Display) -> Self {
        self.correlation_id = Some(id.to_string());
        self
    }

    /// What directly caused this event: most often another event's id, or a command's.
    #[must_use]
    pub fn causation_id(mut self, id: impl Display) -> Self {
        self.causation_id = Some(id.to_string());
        self
    }

    /// Who did it.
    #[must_use]
    pub fn actor(mut self, actor: impl Display) -> Self {
        self.actor = Some(actor.to_string());
        self
    }

    /// Adds a free field.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a key that begins with `$` or is one of the named fields', [`ErrorKind::Encode`]
    /// when the value cannot be JSON.
    pub fn with(
        mut self,
        key: impl Into<String>,
        value: &(impl Serialize + ?Sized),
    ) -> Result<Self> {
        let key = key.into();
        if is_reserved(&key) || NAMED.contains(&key.as_str()) {
            return Err(Error::new(ErrorKind::Invalid {
                reason: format!("metadata key {key:?} is taken"),
            }));
        }
        let value = serde_json::to_value(value).map_err(|e| {
            Error::with_source(
                ErrorKind::Encode {
                    what: format!("metadata field {key:?}"),
                },
                e,
            )
        })?;
        self.fields.insert(key, value);
        Ok(self)
    }

    /// The correlation id, if there is one.
    #[must_use]
    pub fn correlation(&self) -> Option<&str> {
        self.correlation_id.as_deref()
    }

    /// The causation id, if there is one.
    #[must_use]
    pub fn causation(&self) -> Option<&str> {
        self.causation_id.as_deref()
    }

    /// Who did it, if that is known.
    #[must_use]
    pub fn who(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// A free field.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it is not of this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.fields
            .get(key)
            .map(T::deserialize)
            .transpose()
            .map_err(|e| {
                Error::with_source(
                    ErrorKind::Decode {
                        what: format!("metadata field {key:?}"),
                    },
                    e,
                )
            })
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As stored: with the event's schema version where that is not 1; nothing at all when there is nothing to say.
    pub(crate) fn to_json(metadata: Option<&Self>, schema: u32) -> Result<Option<Json>> {
        #[derive(Serialize)]
        struct Stored<'a> {
            #[serde(flatten)]
            metadata: Option<&'a Metadata>,
            #[serde(rename = "$schema", skip_serializing_if = "Option::is_none")]
            schema: Option<u32>,
        }
        debug_assert_eq!(SCHEMA_KEY, "$schema");
        let schema = (schema != 1).then_some(schema);
        let metadata = metadata.filter(|m| !m.is_empty());
        if metadata.is_none() && schema.is_none() {
            return Ok(None);
        }
        Json::new(&Stored { metadata, schema }).map(Some)
    }

    /// From storage; the store's own keys are left out.
    pub(crate) fn from_json(json: &Json) -> Result<Self> {
        json.to()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_stored_when_there_is_nothing_to_say() {
        assert_eq!(Metadata::to_json(None, 1).expect("json"), None);
        assert_eq!(
            Metadata::to_json(Some(&Metadata::new()), 1).expect("json"),
            None
        );
    }

    #[test]
    fn the_schema_version_travels_beside_the_callers_fields() {
        let metadata = Metadata::new()
            .actor("bob")
            .with("tenant", "x")
            .expect("free key");
        let json = Metadata::to_json(Some(&metadata), 3)
            .expect("json")
            .expect("some");
        assert_eq!(json.as_str(), r#"{"actor":"bob","tenant":"x","$schema":3}"#);
        assert_eq!(Metadata::from_json(&json).expect("metadata"), metadata);
    }

    #[test]
    fn the_stores_own_keys_are_never_handed_on() {
        let stored =
            Json::from_text(r#"{"$schema": 3, "$more": 1, "actor": "bob", "tenant": "x"}"#)
                .expect("json");
        let read: Metadata = stored.to().expect("metadata");
        let again = Metadata::to_json(Some(&read), 1).expect("json");
        let again = again.expect("some");
        assert_eq!(again.as_str(), r#"{"actor":"bob","tenant":"x"}"#);
        let only_theirs: Metadata = serde_json::from_str(r#"{"$schema": 3}"#).expect("metadata");
        assert!(only_theirs.is_empty());
    }

    #[test]
    fn reserved_keys_are_refused() {
        assert!(
            Metadata::new()
                .with("$schema", &1)
                .is_err_and(|e| e.is_invalid())
        );
        assert!(
            Metadata::new()
                .with("actor", &1)
                .is_err_and(|e| e.is_invalid())
        );
    }
}
