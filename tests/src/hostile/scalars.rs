//! Hostile values of plain types.

use proptest::prelude::*;

/// A string literal.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn any_of(expressions: &'static [&'static str]) -> BoxedStrategy<String> {
    proptest::sample::select(expressions)
        .prop_map(str::to_owned)
        .boxed()
}

fn literal(
    strategy: impl Strategy<Value = String> + 'static,
    cast: &'static str,
) -> BoxedStrategy<String> {
    strategy
        .prop_map(move |text| format!("{}::{cast}", quoted(&text)))
        .boxed()
}

/// Streams that the test has made, and names that others would like to have.
pub(super) fn stream() -> BoxedStrategy<String> {
    prop_oneof![
        6 => any_of(&["'there-1'", "'there-2'", "'truncated-1'", "'gone-1'", "'new-1'", "'new-2'", "'new-3'"]),
        1 => text(),
    ]
    .boxed()
}

pub(super) fn level() -> BoxedStrategy<String> {
    any_of(&["'reader'", "'writer'", "'admin'", "'owner'", "''", "NULL"])
}

pub(super) fn subscription() -> BoxedStrategy<String> {
    prop_oneof![6 => any_of(&["'feed'", "'feed'", "'feed'", "'other'"]), 1 => text()].boxed()
}

/// Fences and partitions that may just be right.
pub(super) fn small(sql_type: &str) -> BoxedStrategy<String> {
    let cast = sql_type.to_owned();
    any_of(&["0", "1", "1", "2", "3", "-1", "NULL"])
        .prop_map(move |number| format!("{number}::{cast}"))
        .boxed()
}

pub(super) fn role() -> BoxedStrategy<String> {
    any_of(&[
        "'friend'",
        "'friend'",
        "'friend'",
        "'postgres'",
        "'mire_owner'",
        "'public'",
        "'PUBLIC'",
        "'friend; --'",
        "NULL",
    ])
}

pub(super) fn text() -> BoxedStrategy<String> {
    prop_oneof![
        2 => any_of(&[
            "NULL", "''", "' '", "'$x'", "'$stream_deleted'", "'-'", "'-a'", "'a-'", "'there-1'", "'gone-1'",
            "E'\\x01'", "E'a\\nb'", "E'\\u007f'", "E'\\u0085'", "E'\\u200f'", "E'\\ufffe'", "E'\\U0001F600'", "U&'\\+10FFFF'",
            "chr(0)", "E'\\xff'", "repeat('x', 512)", "repeat('x', 513)", "repeat('é', 256)", "repeat('é', 257)",
            "repeat('😀', 128) ", "repeat('😀', 129)", "repeat('x', 100000)", "'a''b\"c\\d'", "'%s%I%L'", "'{}'", "'[1]'",
            "'postgres'", "'mire_owner'", "'public'", "'mire.events; DROP TABLE mire.events'", "'pg_monitor'",
            "'a' || chr(9)", "'\u{202e}drawkcab'", "'e\u{301}'", "convert_from('\\xc0af'::bytea, 'UTF8')",
        ]),
        1 => literal("\\PC{0,20}", "text"),
        1 => literal("[a-z]{1,3}-[0-9]", "text"),
    ]
    .boxed()
}

pub(super) fn jsonb() -> BoxedStrategy<String> {
    prop_oneof![
        3 => any_of(&[
            "NULL", "'null'::jsonb", "'{}'::jsonb", "'[]'::jsonb", "'{\"a\": {\"b\": [1, 2]}}'::jsonb", "'1'::jsonb",
            "'\"\\u0000\"'::jsonb", "'{\"\\u0000\": 1}'::jsonb", "'\"\\ud800\"'::jsonb", "'\"\\ud83d\\ude00\"'::jsonb",
            "'1e131071'::jsonb", "'1e400000'::jsonb", "'-1e-16383'::jsonb", "'1e-99999999999'::jsonb",
            "repeat('9', 100000)::jsonb", "'0.1e-400'::jsonb", "'NaN'::jsonb", "'{\"a\":1,\"a\":2}'::jsonb", "''::jsonb",
            "(repeat('[', 100) || repeat(']', 100))::jsonb", "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
            "(repeat('{\"a\":', 4000) || '1' || repeat('}', 4000))::jsonb",
            "(repeat('[', 200000) || repeat(']', 200000))::jsonb", "to_jsonb(repeat('x', 1048577))",
            "to_jsonb(repeat('x', 1048560))", "to_jsonb(repeat('x', 3000000))", "jsonb_build_object(repeat('k', 300000), 1)",
            "(SELECT jsonb_agg(i) FROM generate_series(1, 60000) AS i)", "'{\"type\": \"t\"'::jsonb",
            "'[{\"type\": \"t\", \"data\": 1}]'::jsonb",
        ]),
        2 => events(),
    ]
    .boxed()
}

/// Arrays of events as `append` takes them: right ones, and each part wrong.
pub(super) fn events() -> BoxedStrategy<String> {
    let part = |name: &'static str, values: &'static [&'static str]| {
        proptest::sample::select(values).prop_map(move |value| match value {
            "absent" => String::new(),
            value => format!("\"{name}\": {value}, "),
        })
    };
    let types = &[
        "\"t\"",
        "\"t\"",
        "\"t\"",
        "\"u\"",
        "\"$t\"",
        "\"\"",
        "null",
        "1",
        "[]",
        "\"a\\nb\"",
        "absent",
    ];
    let data = &[
        "1",
        "null",
        "{}",
        "{}",
        "[[]]",
        "\"\\u0000\"",
        "1e131071",
        "absent",
    ];
    let metadata = &[
        "absent",
        "absent",
        "{}",
        "{\"actor\": 1}",
        "null",
        "[]",
        "1",
        "\"x\"",
    ];
    let ids = &[
        "absent",
        "absent",
        "absent",
        "null",
        "\"018f4f5e-0000-7000-8000-000000000001\"",
        "\"018F4F5E-0000-7000-8000-000000000001\"",
        "\"018f4f5e-0000-7000-8000-00000000000\"",
        "\"{018f4f5e-0000-7000-8000-000000000001}\"",
        "\"\"",
        "7",
        "[]",
    ];
    let extra = &["absent", "absent", "absent", "absent", "1", "null"];
    let event = (
        part("type", types),
        part("data", data),
        part("metadata", metadata),
        part("id", ids),
        part("Type", extra),
    );
    let event = event.prop_map(|(kind, data, metadata, id, extra)| {
        let all = format!("{kind}{data}{metadata}{id}{extra}");
        format!("{{{}}}", all.trim_end_matches(", "))
    });
    let item = prop_oneof![
        30 => event,
        20 => Just("{\"type\": \"t\", \"data\": {}}".to_owned()),
        1 => any_of(&["null", "1", "[]", "\"x\"", "{}"]),
    ];
    prop_oneof![
        20 => literal(proptest::collection::vec(item, 0..4).prop_map(|items| format!("[{}]", items.join(","))), "jsonb"),
        1 => any_of(&[
            "(SELECT jsonb_agg('{\"type\": \"t\", \"data\": 1}'::jsonb) FROM generate_series(1, 10001))",
            "(SELECT jsonb_agg('{\"type\": \"t\", \"data\": 1}'::jsonb) FROM generate_series(1, 2000))",
        ]),
    ]
    .boxed()
}

pub(super) fn bigint() -> BoxedStrategy<String> {
    prop_oneof![
        4 => any_of(&["NULL", "0", "1", "2", "3", "-1"]),
        2 => any_of(&[
            "-2", "9223372036854775807", "9223372036854775806", "(-9223372036854775808)", "4294967296", "2147483648",
            "9223372036854775808", "1e30", "'x'", "1.5", "'1 '", "'0x10'",
        ]),
        1 => any::<i64>().prop_map(|number| format!("({number})")),
    ]
    .prop_map(|number| format!("{number}::bigint"))
    .boxed()
}

pub(super) fn integer() -> BoxedStrategy<String> {
    any_of(&[
        "NULL",
        "0",
        "1",
        "2",
        "-1",
        "1000",
        "2147483647",
        "(-2147483648)",
        "2147483648",
        "1e10",
        "'x'",
    ])
    .prop_map(|number| format!("{number}::integer"))
    .boxed()
}

pub(super) fn boolean() -> BoxedStrategy<String> {
    any_of(&["true", "false", "NULL::boolean", "'maybe'::boolean"])
}

pub(super) fn interval() -> BoxedStrategy<String> {
    any_of(&[
        "NULL",
        "'0'",
        "'10 ms'",
        "'9.999 ms'",
        "'1 s'",
        "'-1 s'",
        "'1 day'",
        "'24:00:01'",
        "'1 day 1 us'",
        "'1 mon'",
        "'1 mon -30 days'",
        "'-1 mon 31 days'",
        "'178000000 years'",
        "'-178000000 years'",
        "'1e30 years'",
        "'infinity'",
        "'-infinity'",
        "'x'",
        "'2147483647 days 9223372036854775807 us'",
        "'-2147483648 days'",
        "'1 us'",
    ])
    .prop_map(|text| format!("{text}::interval"))
    .boxed()
}

/// Types that are there, that are not, and what is no value's type.
pub(super) fn oid() -> BoxedStrategy<String> {
    proptest::sample::select(&["0", "25", "20", "2249", "4294967295", "NULL::oid"][..])
        .prop_map(str::to_owned)
        .boxed()
}

/// Bytes that are mostly 0, 1 and 255, of which the protocol's numbers are made.
pub(super) fn bytea() -> BoxedStrategy<String> {
    let byte = prop_oneof![6 => Just(0_u8), 3 => Just(1), 1 => Just(255), 1 => any::<u8>()];
    let bytes = proptest::collection::vec(byte, 0..24).prop_map(|bytes| {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("'\\x{}'::bytea", hex.concat())
    });
    prop_oneof![9 => bytes, 1 => Just("NULL::bytea".to_owned())].boxed()
}

pub(super) fn uuid() -> BoxedStrategy<String> {
    any_of(&[
        "NULL",
        "gen_random_uuid()",
        "'00000000-0000-0000-0000-000000000000'",
        "'x'",
    ])
    .prop_map(|text| format!("{text}::uuid"))
    .boxed()
}

pub(super) fn timestamp() -> BoxedStrategy<String> {
    any_of(&[
        "NULL",
        "now()",
        "'infinity'",
        "'-infinity'",
        "'294276-12-31'",
        "'x'",
    ])
    .prop_map(|text| format!("{text}::timestamptz"))
    .boxed()
}
