//! The way back: reads a variant's content as a given variant of an enum, through the user's own `Deserialize`.

use serde::de::value::U64Deserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

type Json<'de> = serde_json::Deserializer<serde_json::de::SliceRead<'de>>;

/// Reads `json` as the content of the enum's `variant`-th variant, counted from 0. Used by the derive macro.
///
/// # Errors
/// When the JSON does not fit the variant, or the type is no enum in serde's default (externally tagged) form.
pub fn from_content<T: DeserializeOwned>(
    variant: usize,
    json: &[u8],
) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Content {
        variant,
        json: &mut json,
    })?;
    json.end()?;
    Ok(value)
}

struct Content<'a, 'de> {
    variant: usize,
    json: &'a mut Json<'de>,
}

impl<'de> Deserializer<'de> for Content<'_, 'de> {
    type Error = serde_json::Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom(
            "EventData on an enum needs serde's default representation of enums",
        ))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'a, 'de> EnumAccess<'de> for Content<'a, 'de> {
    type Error = serde_json::Error;
    type Variant = VariantContent<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Self::Error> {
        // A derived Deserialize takes a variant's index as well as its name, which spares knowing serde's name for it.
        let index = U64Deserializer::<Self::Error>::new(self.variant as u64);
        Ok((seed.deserialize(index)?, VariantContent(self.json)))
    }
}

struct VariantContent<'a, 'de>(&'a mut Json<'de>);

impl<'de> VariantAccess<'de> for VariantContent<'_, 'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        // Whatever a variant that has lost its fields was once stored with.
        IgnoredAny::deserialize(self.0).map(|_| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, Self::Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
