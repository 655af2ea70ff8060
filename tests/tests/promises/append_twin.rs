//! Append has one implementation, in Rust. A second one in plain SQL stands here beside it (`src/twin.sql`): random calls get
//! the same answers, the same errors to the letter and leave the same rows in both.

use std::cell::RefCell;
use std::fmt::Write;

use mire_cluster::shared;
use mire_tests::session::connect;
use postgres::{Client, SimpleQueryMessage};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const TWIN: &str = include_str!("../../src/twin.sql");

/// Small enough to be met.
const LIMITS: &str = "SET mire.max_event_bytes = 600; SET mire.max_events_per_call = 9; SET mire.max_name_bytes = 24";

/// What there is, but for ids that the server has made and times.
fn contents(schema: &str) -> String {
    format!(
        "SELECT s.stream, s.version AS head, s.truncated_before, s.deleted, e.position, e.version, e.category, e.type,
                e.data, e.metadata, CASE WHEN e.event_id::text LIKE '0000%' THEN e.event_id END AS id
           FROM {schema}.stream_heads AS s
           LEFT JOIN {schema}.events AS e USING (stream_no)
          ORDER BY s.stream, e.version"
    )
}

fn name() -> BoxedStrategy<String> {
    let ordinary = prop_oneof![
        40 => select(&["'a-1'", "'a-2'", "'a-3'", "'b'", "'-x'", "'é-1'", "'gone-1'", "'long-name-of-24-bytes-ok'"][..]),
        1 => select(&["NULL", "''", "'$s'", "E'c\\n'", "E'\\u0085'", "E'\\u007f'", "'ÂÂ'", "'a name longer than 24 bytes'"][..]),
    ]
    .prop_map(str::to_owned);
    // Enough for some to be new at any time.
    prop_oneof![ordinary, (0..300).prop_map(|n| format!("'s-{n}'")),].boxed()
}

fn data() -> BoxedStrategy<String> {
    prop_oneof![
        30 => select(&["'1'", "'null'", "'{\"k\": \"v\"}'", "'[1, {\"a\": []}]'"][..]).prop_map(str::to_owned),
        3 => (1..700_usize).prop_map(|length| format!("to_jsonb(repeat('x', {length}))")),
        1 => Just("NULL".to_owned()),
    ]
    .boxed()
}

fn metadata() -> BoxedStrategy<String> {
    prop_oneof![
        30 => select(&["NULL", "'{}'", "'{\"schema\": 2}'"][..]),
        1 => select(&["'null'", "'[]'", "'true'", "'\"s\"'", "'3'"][..]),
    ]
    .prop_map(str::to_owned)
    .boxed()
}

/// Few enough to come again.
fn id() -> BoxedStrategy<String> {
    prop_oneof![
        1 => Just("NULL".to_owned()),
        8 => (1..12).prop_map(|n| format!("'0000{n:04}-0000-7000-8000-000000000000'")),
    ]
    .boxed()
}

fn expected() -> BoxedStrategy<String> {
    prop_oneof![
        6 => Just("NULL".to_owned()),
        1 => Just("-2".to_owned()),
        3 => Just("-1".to_owned()),
        10 => (0..2_i64).prop_map(|version| version.to_string()),
        10 => (0..8_i64).prop_map(|version| version.to_string()),
    ]
    .boxed()
}

/// An array of `length` elements, or now and then something else.
fn array(
    element: BoxedStrategy<String>,
    kind: &'static str,
    length: usize,
    null: u32,
) -> BoxedStrategy<String> {
    let items = move |count: usize| {
        proptest::collection::vec(element.clone(), count)
            .prop_map(move |items| format!("ARRAY[{}]::{kind}[]", items.join(", ")))
    };
    prop_oneof![
        60 => items(length),
        null => Just(format!("NULL::{kind}[]")),
        1 => items(length + 1),
        1 => items(length).prop_map(|items| format!("ARRAY[{items}]")),
        1 => Just(format!("array_fill(NULL::{kind}, ARRAY[{length}], ARRAY[0])")),
    ]
    .boxed()
}

fn events(total: usize) -> impl Strategy<Value = [String; 4]> {
    (
        array(name(), "text", total, 1),
        array(data(), "jsonb", total, 1),
        array(metadata(), "jsonb", total, 60),
        array(id(), "uuid", total, 20),
    )
        .prop_map(|(types, data, metadata, ids)| [types, data, metadata, ids])
}

/// A call; `@` stands for the schema.
fn call() -> BoxedStrategy<String> {
    let one = (0..11_usize, name(), expected())
        .prop_flat_map(|(total, stream, expected)| {
            // Mostly few.
            let total = if total < 9 { total / 3 } else { total };
            (Just(stream), Just(expected), events(total))
        })
        .prop_map(|(stream, expected, events)| {
            format!(
                "SELECT * FROM @.append_events({stream}, {}, {expected})",
                events.join(", ")
            )
        });
    let many = proptest::collection::vec((name(), expected(), 0..3_i32), 0..6)
        .prop_flat_map(|items| {
            let count = items.len();
            let total: i32 = items.iter().map(|(_, _, count)| count).sum();
            let column = |of: &dyn Fn(&(String, String, i32)) -> String| {
                let cells: Vec<String> = items.iter().map(of).collect();
                cells.join(", ")
            };
            let streams = format!("ARRAY[{}]::text[]", column(&|item| item.0.clone()));
            let expected = format!("ARRAY[{}]::bigint[]", column(&|item| item.1.clone()));
            let counts = format!("ARRAY[{}]::integer[]", column(&|item| item.2.to_string()));
            let odd = |right: String, element: BoxedStrategy<String>, kind| {
                prop_oneof![60 => Just(right), 1 => array(element, kind, count, 1)]
            };
            (
                odd(streams, name(), "text"),
                odd(expected, self::expected(), "bigint"),
                odd(
                    counts,
                    select(&["NULL", "-1", "0", "1", "4"][..]).prop_map(str::to_owned).boxed(),
                    "integer",
                ),
                events(total as usize),
            )
        })
        .prop_map(|(streams, expected, counts, events)| {
            format!(
                "SELECT * FROM @.append_batch({streams}, {expected}, {counts}, {})",
                events.join(", ")
            )
        });
    prop_oneof![one, many].boxed()
}

/// What came back, as text: rows, or the error.
fn answer(client: &mut Client, sql: &str) -> String {
    let mut said = String::new();
    match client.simple_query(sql) {
        Ok(messages) => {
            for message in messages {
                if let SimpleQueryMessage::Row(row) = message {
                    let cells: Vec<Option<&str>> = (0..row.len()).map(|i| row.get(i)).collect();
                    writeln!(said, "{cells:?}").unwrap();
                }
            }
        }
        Err(error) => {
            let error = error
                .as_db_error()
                .unwrap_or_else(|| panic!("{sql}: {error:?}"));
            write!(
                said,
                "{} {} {:?} {:?}",
                error.code().code(),
                error.message(),
                error.detail(),
                error.hint()
            )
            .unwrap();
        }
    }
    // Of several ids that repeat, which one is named is left open.
    let lines = said.lines().map(|line| match line.find("event ") {
        Some(at) if line.contains("is given twice") => format!("{}…\n", &line[..at]),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn random_calls_do_the_same_as_a_second_implementation_in_sql() {
    let cases = if std::env::var("MIRE_LONG").is_ok_and(|value| value == "1") {
        20_000
    } else {
        1_500
    };
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client.batch_execute(TWIN).unwrap();
    client.batch_execute(LIMITS).unwrap();
    for schema in ["mire", "twin"] {
        let gone = format!(
            "SELECT {schema}.append_events('gone-1', '{{t}}', '{{1}}');
             UPDATE {schema}.stream_heads SET deleted = true"
        );
        client.batch_execute(&gone).unwrap();
    }
    let client = RefCell::new(client);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcomes = RefCell::new(std::collections::BTreeMap::<String, usize>::new());
    runner
        .run(&(call(), any::<bool>()), |(call, again)| {
            let client = &mut *client.borrow_mut();
            // A retry, every other time.
            for _ in 0..=usize::from(again) {
                let native = answer(client, &call.replace('@', "mire"));
                let plain = answer(client, &call.replace('@', "twin"));
                for row in native.lines() {
                    let kind = match row.split('"').nth(3) {
                        Some(outcome) if call.contains("append_batch") && row.starts_with('[') => {
                            outcome
                        }
                        _ if row.starts_with('[') => "appended one",
                        _ => &row[..5],
                    };
                    *outcomes.borrow_mut().entry(kind.to_owned()).or_default() += 1;
                }
                prop_assert_eq!(&native, &plain, "{}", call);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    let client = &mut *client.borrow_mut();
    let native = answer(client, &contents("mire"));
    assert!(native.lines().count() > 300, "{native}");
    assert_eq!(native, answer(client, &contents("twin")));
    let outcomes = outcomes.into_inner();
    println!("{outcomes:?}");
    for outcome in [
        "appended",
        "appended one",
        "conflict",
        "deleted",
        "duplicate",
        "invalid",
        "not_found",
        "MI001",
        "MI002",
        "MI004",
        "MI005",
        "22023",
    ] {
        assert!(
            outcomes.contains_key(outcome),
            "no call met {outcome}: {outcomes:?}"
        );
    }
}
