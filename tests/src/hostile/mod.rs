//! Hostile input for SQL functions: whatever a confused or malicious caller could send, as SQL expressions, so that
//! Postgres's own input functions are in the line of fire too.

mod arrays;
mod scalars;

use proptest::prelude::*;

pub use scalars::quoted;

/// An expression of this SQL type.
///
/// # Panics
/// For a type that nobody has taught this module yet.
pub fn argument(sql_type: &str) -> BoxedStrategy<String> {
    match sql_type {
        "text" => scalars::text(),
        "jsonb" => scalars::jsonb(),
        "bigint" => scalars::bigint(),
        "integer" => scalars::integer(),
        "boolean" => scalars::boolean(),
        "interval" => scalars::interval(),
        "uuid" => scalars::uuid(),
        "oid" => scalars::oid(),
        "bytea" => scalars::bytea(),
        "timestamp with time zone" => scalars::timestamp(),
        array => {
            let element = array
                .strip_suffix("[]")
                .unwrap_or_else(|| panic!("what is a hostile {array}?"));
            arrays::array(element)
        }
    }
}

/// Arguments that fit together, so that the checks of shapes are passed: three events, three items.
pub fn coherent(name: &str, sql_type: &str) -> BoxedStrategy<String> {
    match (name, sql_type) {
        ("counts", _) => Just("ARRAY[1,1,1]".to_owned()).boxed(),
        ("statements", _) => Just("ARRAY['SELECT 1', 'SELECT $1']".to_owned()).boxed(),
        ("parameters", _) => Just("ARRAY[0, 1]".to_owned()).boxed(),
        ("types", "oid[]") => Just("ARRAY['text'::regtype]::oid[]".to_owned()).boxed(),
        ("events", "jsonb") => scalars::events(),
        (_, array) if array.ends_with("[]") => arrays::three(array),
        ("level", _) => scalars::level(),
        ("stream", _) => scalars::stream(),
        ("role", _) => scalars::role(),
        ("name", "text") => scalars::subscription(),
        ("fence" | "partition", _) => scalars::small(sql_type),
        _ => argument(sql_type),
    }
}
