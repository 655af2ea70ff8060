//! Hostile arrays: of any length, with NULLs, of no or many dimensions, with other lower bounds, far too long.

use proptest::prelude::*;

use super::argument;

/// Literals of a type's elements that Postgres accepts, so that the shape is what is hostile.
fn good(element: &str) -> &'static [&'static str] {
    match element {
        "text" => &["t", "there-1", "new-1", "gone-1", "NULL", "\"\"", "$x"],
        "jsonb" => &["1", "null", "{}", "NULL", "\"[1, 2]\""],
        "bigint" => &[
            "0",
            "1",
            "2",
            "-1",
            "-2",
            "NULL",
            "9223372036854775807",
            "-9223372036854775808",
        ],
        "oid" => &["0", "25", "20", "2249", "NULL", "4294967295"],
        "integer" => &["0", "1", "2", "-1", "NULL", "2147483647", "-2147483648"],
        "uuid" => &[
            "NULL",
            "018f4f5e-0000-7000-8000-000000000001",
            "018f4f5e-0000-7000-8000-000000000002",
        ],
        other => panic!("what are good elements of a {other}[]?"),
    }
}

/// Arrays of this element type in all shapes.
pub(super) fn array(element: &str) -> BoxedStrategy<String> {
    let kind = element.to_owned();
    let elements =
        move |count| proptest::collection::vec(proptest::sample::select(good(&kind)), count);
    // JSON null, not SQL's: jsonb's own braces need quotes in an array.
    let join = |items: Vec<&str>| -> String {
        let quote = |item: &&str| {
            if *item == "{}" {
                "\"{}\"".to_owned()
            } else {
                (*item).to_owned()
            }
        };
        items.iter().map(quote).collect::<Vec<_>>().join(",")
    };
    let kind = element.to_owned();
    let cast = move |text: String| format!("'{text}'::{kind}[]");
    let (flat, shifted, square, cube) = (
        elements(0..5).prop_map(move |items| format!("{{{}}}", join(items))),
        (
            elements(1..4),
            proptest::sample::select(&[0i64, -5, 2, 2_147_483_600, -2_147_483_648][..]),
        )
            .prop_map(move |(items, lower)| {
                let upper = lower + i64::try_from(items.len()).unwrap_or_default() - 1;
                format!("[{lower}:{upper}]={{{}}}", join(items))
            }),
        elements(4..5).prop_map(move |items| {
            format!(
                "{{{{{}}},{{{}}}}}",
                join(items[..2].to_vec()),
                join(items[2..].to_vec())
            )
        }),
        elements(1..2).prop_map(move |items| format!("{{{{{{{{{}}}}}}}}}", join(items))),
    );
    let odd = proptest::sample::select(
        &[
            "{",
            "{}",
            "{{},{}}",
            "{{t},{t,t}}",
            "[1:2]={t}",
            "[2:1]={}",
            "[1:2147483647]={t}",
            "{t,}",
            "[a:b]={}",
        ][..],
    );
    let whole = element.to_owned();
    prop_oneof![
        6 => flat.prop_map(cast.clone()),
        2 => shifted.prop_map(cast.clone()),
        1 => square.prop_map(cast.clone()),
        1 => cube.prop_map(cast.clone()),
        1 => odd.prop_map(str::to_owned).prop_map(cast),
        1 => Just(format!("NULL::{element}[]")),
        1 => Just(long(element)),
        2 => proptest::collection::vec(argument(element), 0..4).prop_map(move |items| {
            format!("ARRAY[{}]::{whole}[]", items.join(","))
        }),
    ]
    .boxed()
}

/// Longer than any call allows.
fn long(element: &str) -> String {
    let value = match element {
        "text" => "'n' || i",
        "jsonb" => "to_jsonb(i)",
        "uuid" => "gen_random_uuid()",
        _ => "1",
    };
    format!("(SELECT array_agg(({value})::{element}) FROM generate_series(1, 12000) AS i)")
}

/// Three elements, each of which may be hostile.
pub(super) fn three(array: &str) -> BoxedStrategy<String> {
    let element = array.trim_end_matches("[]").to_owned();
    let fine = match element.as_str() {
        "text" => "'t'",
        "jsonb" => "'{}'::jsonb",
        "uuid" => "gen_random_uuid()",
        _ => "NULL",
    };
    let one = prop_oneof![14 => Just(fine.to_owned()), 1 => argument(&element)];
    let three = proptest::collection::vec(one, 3)
        .prop_map(move |items| format!("ARRAY[{}]::{element}[]", items.join(",")));
    prop_oneof![8 => three, 1 => Just(format!("NULL::{array}"))].boxed()
}
