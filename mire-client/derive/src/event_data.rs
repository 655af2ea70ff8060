//! `#[derive(EventData)]`: checks names, then writes the implementation.

use std::collections::HashMap;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Data, DataEnum, DeriveInput, Error, LitStr, Result, Variant, spanned::Spanned};

use crate::attributes::{
    EventDataAttributes, Place, refuse_serde_on_variant, refuse_serde_representations,
};
use crate::names::{kebab_case, objection};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new(
            input.generics.span(),
            "EventData cannot be derived for a generic type: a stored event has one shape; derive it for a concrete type",
        ));
    }
    match &input.data {
        Data::Enum(data) => expand_enum(input, data),
        Data::Struct(_) => expand_struct(input),
        Data::Union(_) => Err(Error::new(
            input.ident.span(),
            "EventData can be derived for enums and structs",
        )),
    }
}

/// One stored name with its aliases and schema version.
struct Kind {
    event_type: String,
    named_at: Span,
    aliases: Vec<LitStr>,
    schema: u32,
}

fn expand_enum(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    let attributes = EventDataAttributes::read(&input.attrs, &Place::Enum)?;
    refuse_serde_representations(&input.attrs)?;
    let Some(entity) = &attributes.entity else {
        return Err(Error::new(
            input.ident.span(),
            format!(
                "say which entity these events belong to: `#[event_data(entity = \"{}\")]`; it becomes the first part of \
                 every stored name",
                kebab_case(input.ident.to_string().trim_end_matches("Event"))
            ),
        ));
    };
    if data.variants.is_empty() {
        return Err(Error::new(
            input.ident.span(),
            "an enum without variants has no events",
        ));
    }
    let kinds = data
        .variants
        .iter()
        .map(|v| variant_kind(entity, v))
        .collect::<Result<Vec<_>>>()?;
    refuse_duplicates(&kinds)?;

    let indices = 0..kinds.len();
    let patterns = data.variants.iter().map(|variant| {
        let name = &variant.ident;
        quote!(Self::#name { .. })
    });
    let kind_index = quote!(match self { #(#patterns => #indices,)* });
    Ok(implementation(
        input,
        &kinds,
        &kind_index,
        &quote!(::mire_client::private::to_content(self)),
        &quote!(::mire_client::private::from_content(kind_index, json)),
        attributes.upcast.as_ref(),
    ))
}

fn expand_struct(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = EventDataAttributes::read(&input.attrs, &Place::Struct)?;
    let own = attributes
        .rename
        .as_ref()
        .map_or_else(|| kebab_case(&input.ident.to_string()), LitStr::value);
    let event_type = match (&attributes.event_type, &attributes.entity) {
        (Some(whole), Some(entity)) => {
            return Err(Error::new(
                entity.span(),
                format!(
                    "`event_type` is the whole name {:?}: drop `entity`",
                    whole.value()
                ),
            ));
        }
        (Some(whole), None) => whole.value(),
        (None, Some(entity)) => format!("{}.{own}", entity.value()),
        (None, None) => own,
    };
    let named_at = attributes
        .event_type
        .as_ref()
        .or(attributes.rename.as_ref())
        .or(attributes.entity.as_ref())
        .map_or_else(|| input.ident.span(), LitStr::span);
    let kinds = [checked_kind(
        event_type,
        named_at,
        attributes.aliases,
        attributes.schema.as_ref(),
    )?];
    refuse_duplicates(&kinds)?;
    Ok(implementation(
        input,
        &kinds,
        &quote!(0),
        &quote!(::mire_client::Json::new(self)),
        &quote!({
            let _ = kind_index;
            ::mire_client::private::from_slice(json)
        }),
        attributes.upcast.as_ref(),
    ))
}

fn variant_kind(entity: &LitStr, variant: &Variant) -> Result<Kind> {
    refuse_serde_on_variant(&variant.attrs)?;
    let attributes = EventDataAttributes::read(&variant.attrs, &Place::Variant)?;
    let (event_type, named_at) = match (&attributes.event_type, &attributes.rename) {
        (Some(whole), _) => (whole.value(), whole.span()),
        (None, Some(rename)) => (
            format!("{}.{}", entity.value(), rename.value()),
            rename.span(),
        ),
        (None, None) => (
            format!(
                "{}.{}",
                entity.value(),
                kebab_case(&variant.ident.to_string())
            ),
            variant.ident.span(),
        ),
    };
    checked_kind(
        event_type,
        named_at,
        attributes.aliases,
        attributes.schema.as_ref(),
    )
}

fn checked_kind(
    event_type: String,
    named_at: Span,
    aliases: Vec<LitStr>,
    schema: Option<&syn::LitInt>,
) -> Result<Kind> {
    let empty_part = event_type.starts_with('.') || event_type.ends_with('.');
    if let Some(why) =
        objection(&event_type).or(empty_part.then_some("a part of the name is empty"))
    {
        return Err(Error::new(
            named_at,
            format!("event type {event_type:?}: {why}"),
        ));
    }
    for alias in &aliases {
        if let Some(why) = objection(&alias.value()) {
            return Err(Error::new(alias.span(), why));
        }
    }
    let schema = match schema {
        None => 1,
        Some(literal) => match literal.base10_parse::<u32>()? {
            0 => return Err(Error::new(literal.span(), "schema versions begin at 1")),
            n => n,
        },
    };
    Ok(Kind {
        event_type,
        named_at,
        aliases,
        schema,
    })
}

fn refuse_duplicates(kinds: &[Kind]) -> Result<()> {
    let mut seen: HashMap<String, ()> = HashMap::new();
    // Names first, so that the message points at the alias where a name and an alias meet.
    for kind in kinds {
        if seen.insert(kind.event_type.clone(), ()).is_some() {
            return Err(Error::new(
                kind.named_at,
                format!(
                    "two events are called {:?}: give one another name with `#[event_data(rename = \"…\")]`",
                    kind.event_type
                ),
            ));
        }
    }
    for alias in kinds.iter().flat_map(|kind| &kind.aliases) {
        if seen.insert(alias.value(), ()).is_some() {
            return Err(Error::new(
                alias.span(),
                format!(
                    "{:?} already names an event here: an alias is an older name that nothing else has",
                    alias.value()
                ),
            ));
        }
    }
    Ok(())
}

fn implementation(
    input: &DeriveInput,
    kinds: &[Kind],
    kind_index: &TokenStream,
    to_json: &TokenStream,
    from_json: &TokenStream,
    upcast: Option<&syn::Path>,
) -> TokenStream {
    let name = &input.ident;
    let kinds = kinds.iter().map(|Kind { event_type, aliases, schema, .. }| {
        quote!(::mire_client::EventKind { event_type: #event_type, schema: #schema, aliases: &[#(#aliases),*] })
    });
    let upcast = upcast.map(|path| {
        quote! {
            fn upcast(
                old: ::mire_client::OldEvent,
            ) -> ::core::result::Result<::mire_client::OldEvent, ::mire_client::BoxError> {
                #path(old)
            }
        }
    });
    quote! {
        #[automatically_derived]
        impl ::mire_client::EventData for #name {
            const KINDS: &'static [::mire_client::EventKind] = &[#(#kinds),*];

            fn kind_index(&self) -> usize {
                #kind_index
            }

            fn to_json(&self) -> ::mire_client::Result<::mire_client::Json> {
                #to_json
            }

            fn from_json(
                kind_index: usize,
                json: &[u8],
            ) -> ::core::result::Result<Self, ::mire_client::private::JsonError> {
                #from_json
            }

            #upcast
        }
    }
}
