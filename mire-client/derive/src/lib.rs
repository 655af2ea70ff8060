//! The derive macro of mire-client. What it means to a user is documented on the trait,
//! `mire_client::EventData`.

mod attributes;
mod event_data;
mod names;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `EventData`: stable type names for the variants of an enum, or for a struct.
#[proc_macro_derive(EventData, attributes(event_data))]
pub fn derive_event_data(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event_data::expand(&input)
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
