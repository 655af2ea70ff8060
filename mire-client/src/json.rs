//! JSON as text, straight from serde to the wire and back: nothing is parsed into a tree in between.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::error::{Error, ErrorKind, Result};

/// A piece of JSON, kept as the text it was written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Json(Box<str>);

impl Json {
    /// Serialises a value.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when the value cannot be JSON, [`ErrorKind::Invalid`] when it contains the character
    /// U+0000, which PostgreSQL's `jsonb` cannot hold.
    pub fn new(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let text = serde_json::to_string(value).map_err(|e| {
            Error::with_source(
                ErrorKind::Encode {
                    what: "JSON".into(),
                },
                e,
            )
        })?;
        Self::from_serialised(text)
    }

    /// Takes JSON text as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`] when it is not JSON, [`ErrorKind::Invalid`] when it contains U+0000.
    pub fn from_text(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        serde_json::from_str::<&RawValue>(&text).map_err(|e| {
            Error::with_source(
                ErrorKind::Encode {
                    what: "JSON".into(),
                },
                e,
            )
        })?;
        Self::from_serialised(text)
    }

    /// For text that a serialiser has just written.
    pub(crate) fn from_serialised(text: String) -> Result<Self> {
        if has_nul_escape(text.as_bytes()) {
            return Err(Error::new(ErrorKind::Invalid {
                reason: "a string holds U+0000, which jsonb cannot store".into(),
            }));
        }
        Ok(Self(text.into_boxed_str()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when it does not fit.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|e| {
            Error::with_source(
                ErrorKind::Decode {
                    what: "JSON".into(),
                },
                e,
            )
        })
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().into()))
    }
}

/// `jsonb` travels as a version byte, 1, and then the text.
const JSONB_VERSION: u8 = 1;

impl ToSql for Json {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        if *ty == Type::JSONB {
            out.put_u8(JSONB_VERSION);
        }
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSON | Type::JSONB)
    }

    to_sql_checked!();
}

/// JSON borrowed from a row that has just arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonRef<'a>(pub(crate) &'a [u8]);

impl<'a> JsonRef<'a> {
    /// As `jsonb` travels.
    pub(crate) fn sent(
        jsonb: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        match jsonb.split_first() {
            Some((&JSONB_VERSION, text)) => Ok(Self(text)),
            _ => Err("jsonb of an unknown version".into()),
        }
    }

    pub(crate) fn to_owned(self) -> std::result::Result<Json, std::str::Utf8Error> {
        Ok(Json(std::str::from_utf8(self.0)?.into()))
    }
}

impl<'a> FromSql<'a> for JsonRef<'a> {
    fn from_sql(
        ty: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        if *ty != Type::JSONB {
            return Ok(Self(raw));
        }
        Self::sent(raw)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::JSON | Type::JSONB)
    }
}

/// Whether serialised JSON holds an escaped U+0000. A backslash that is itself escaped escapes nothing.
fn has_nul_escape(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(|&b| b == b'\\') {
        let backslash = at + found;
        if text[backslash + 1..].starts_with(b"u0000") {
            return true;
        }
        at = (backslash + 2).min(text.len());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_refused_wherever_it_hides_and_nothing_else_is() {
        assert!(Json::new(&"a\0b").is_err_and(|e| e.is_invalid()));
        assert!(Json::new(&serde_json::json!({"k\0": 1})).is_err_and(|e| e.is_invalid()));
        for harmless in ["\\u0000", "\\\\u0000", "u0000", "\u{1}", "\\"] {
            assert!(Json::new(&harmless).is_ok(), "{harmless:?}");
        }
        assert!(Json::from_text(r#""\\\u0000""#).is_err());
        assert!(Json::from_text(r#""\\u0000""#).is_ok());
    }

    #[test]
    fn only_json_is_taken_as_text() {
        assert!(Json::from_text("{\"a\": [1, 2]}").is_ok());
        assert!(Json::from_text("{\"a\": ").is_err());
        assert!(Json::from_text("1 2").is_err());
    }

    #[test]
    fn it_embeds_as_json_and_not_as_a_string() {
        let inner = Json::from_text("{\"a\":1}").expect("json");
        let outer = serde_json::to_string(&serde_json::json!([0])).expect("json");
        assert_eq!(outer, "[0]");
        assert_eq!(
            serde_json::to_string(&vec![inner]).expect("json"),
            "[{\"a\":1}]"
        );
    }
}
