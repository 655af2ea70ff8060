//! Reads `#[event_data(…)]`, and what of serde's attributes would get in the way.

use syn::{Attribute, LitInt, LitStr, Path, Result, spanned::Spanned};

/// What may be said about a whole type or one variant; which of it where is checked by the reader.
#[derive(Default)]
pub(crate) struct EventDataAttributes {
    pub(crate) entity: Option<LitStr>,
    pub(crate) event_type: Option<LitStr>,
    pub(crate) rename: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) schema: Option<LitInt>,
    pub(crate) upcast: Option<Path>,
}

pub(crate) enum Place {
    Enum,
    Struct,
    Variant,
}

impl Place {
    fn allows(&self, key: &str) -> bool {
        match self {
            Self::Enum => matches!(key, "entity" | "upcast"),
            Self::Struct => matches!(
                key,
                "entity" | "event_type" | "rename" | "alias" | "schema" | "upcast"
            ),
            Self::Variant => matches!(key, "event_type" | "rename" | "alias" | "schema"),
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Self::Enum => {
                "on an enum: `entity`, `upcast`; names, aliases and schema versions belong to its variants"
            }
            Self::Struct => {
                "on a struct: `entity`, `event_type`, `rename`, `alias`, `schema`, `upcast`"
            }
            Self::Variant => "on a variant: `rename`, `event_type`, `alias`, `schema`",
        }
    }
}

impl EventDataAttributes {
    pub(crate) fn read(attributes: &[Attribute], place: &Place) -> Result<Self> {
        let mut read = Self::default();
        for attribute in attributes
            .iter()
            .filter(|a| a.path().is_ident("event_data"))
        {
            attribute.parse_nested_meta(|meta| {
                let key = meta
                    .path
                    .get_ident()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                if !place.allows(&key) {
                    return Err(meta.error(format!(
                        "`{key}` is not known here; allowed {}",
                        place.allowed()
                    )));
                }
                match key.as_str() {
                    "entity" => once(&mut read.entity, meta.value()?.parse()?),
                    "event_type" => once(&mut read.event_type, meta.value()?.parse()?),
                    "rename" => once(&mut read.rename, meta.value()?.parse()?),
                    "schema" => once(&mut read.schema, meta.value()?.parse()?),
                    "upcast" => once(&mut read.upcast, parse_path(&meta)?),
                    _ => {
                        read.aliases.push(meta.value()?.parse()?);
                        Ok(())
                    }
                }
            })?;
        }
        if let (Some(rename), Some(_)) = (&read.rename, &read.event_type) {
            return Err(syn::Error::new(
                rename.span(),
                "`rename` and `event_type` both name the event: keep one",
            ));
        }
        Ok(read)
    }
}

fn parse_path(meta: &syn::meta::ParseNestedMeta<'_>) -> Result<Path> {
    meta.value()?.parse().map_err(|e| {
        syn::Error::new(
            e.span(),
            "`upcast` is the path of a function: `upcast = my_upcaster`",
        )
    })
}

fn once<T: Spanned>(slot: &mut Option<T>, value: T) -> Result<()> {
    match slot {
        Some(_) => Err(syn::Error::new(value.span(), "given twice")),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Refuses what changes how serde represents an enum: its content is stored without the variant's name.
pub(crate) fn refuse_serde_representations(attributes: &[Attribute]) -> Result<()> {
    refuse_serde(
        attributes,
        &[
            "tag",
            "content",
            "untagged",
            "into",
            "from",
            "try_from",
            "transparent",
        ],
        |key| {
            format!(
                "`#[serde({key})]` and EventData do not go together: the event's name is stored in a column of its own and \
             only a variant's content becomes JSON; remove the attribute"
            )
        },
    )
}

/// Refuses what changes which variants serde knows.
pub(crate) fn refuse_serde_on_variant(attributes: &[Attribute]) -> Result<()> {
    refuse_serde(
        attributes,
        &[
            "skip",
            "skip_serializing",
            "skip_deserializing",
            "other",
            "untagged",
        ],
        |key| {
            format!(
                "`#[serde({key})]` on a variant and EventData do not go together: every variant is stored and read"
            )
        },
    )
}

fn refuse_serde(
    attributes: &[Attribute],
    keys: &[&str],
    message: impl Fn(&str) -> String,
) -> Result<()> {
    for attribute in attributes.iter().filter(|a| a.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            let key = meta
                .path
                .get_ident()
                .map(ToString::to_string)
                .unwrap_or_default();
            if keys.contains(&key.as_str()) {
                return Err(meta.error(message(&key)));
            }
            // Not ours: step over its value, whatever it is.
            if meta.input.peek(syn::Token![=]) {
                let _: syn::Expr = meta.value()?.parse()?;
            } else if meta.input.peek(syn::token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                let _: proc_macro2::TokenStream = content.parse()?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
