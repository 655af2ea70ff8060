//! Item 8: payloads of 20 MB, whatever text and JSON a driver can send in binary, and sessions with hostile settings.

use std::cell::RefCell;

use mire_cluster::shared;
use mire_tests::session::{connect, pid, refused, value};
use postgres::Client;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

const MEGABYTE: usize = 1024 * 1024;

#[test]
fn a_payload_of_20_megabytes_is_refused_and_leaves_nothing() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let process = pid(&mut client);
    // Sent once; each call then makes its own argument of it.
    client
        .batch_execute("CREATE TEMP TABLE big (text text)")
        .unwrap();
    client
        .execute("INSERT INTO big VALUES ($1)", &[&"x".repeat(20 * MEGABYTE)])
        .unwrap();
    for (call, sqlstate) in [
        (
            "mire.append('s-1', jsonb_build_array('{\"type\": \"t\", \"data\": 1}'::jsonb, jsonb_build_object('type', 't', 'data', text)), 0)",
            "MI004",
        ),
        (
            "mire.append('s-1', jsonb_build_array(jsonb_build_object('type', 't', 'data', 1, 'metadata', jsonb_build_object('m', text))))",
            "MI004",
        ),
        (
            "mire.append('s-1', jsonb_build_array(jsonb_build_object('type', text, 'data', 1)))",
            "MI004",
        ),
        (
            "mire.append('s-1', jsonb_build_array(jsonb_build_object('type', 't', 'data', 1, 'id', text)))",
            "MI004",
        ),
        (
            "mire.append('s-1', jsonb_build_array(jsonb_build_object('type', 't', 'data', 1, text, 1)))",
            "MI004",
        ),
        ("mire.append('s-1', to_jsonb(text))", "MI004"),
        ("mire.append(text, '[]')", "MI004"),
        (
            "mire.append_events('s-1', ARRAY['t'], ARRAY[to_jsonb(text)])",
            "MI004",
        ),
        (
            "mire.append_events('s-1', ARRAY[text], ARRAY['1']::jsonb[])",
            "MI004",
        ),
        ("mire.acquire_lease(text, 'me', '1 s')", "MI004"),
        ("mire.acquire_lease('r', text, '1 s')", "MI004"),
        ("mire.assert_lease(text, 1)", "MI003"),
        ("mire.save_snapshot(text, 1, 1, '{}')", "MI004"),
        ("mire.save_snapshot('s-1', 1, 1, to_jsonb(text))", "MI002"),
        ("mire.delete_stream(text)", "MI004"),
        ("mire.grant_access(text, 'reader')", "42704"),
        ("mire.grant_access('postgres', text)", "22023"),
    ] {
        refused(
            client.query(&format!("SELECT {call} FROM big"), &[]),
            sqlstate,
        );
    }
    let batch = "SELECT (mire.append_batch(ARRAY['s-1', text], NULL, ARRAY[1, 0], ARRAY['t'], ARRAY[to_jsonb(text)])).outcome FROM big";
    let outcomes: Vec<String> = client
        .query(batch, &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(outcomes, ["invalid", "invalid"]);
    let read = "SELECT count(*) FROM big, mire.read_stream(text), mire.read_all(0, 10, ARRAY[text], ARRAY[text]) WHERE mire.stream_version(text) > 0";
    assert_eq!(value::<i64>(&mut client, read), 0);
    let nothing =
        "SELECT (SELECT count(*) FROM mire.events) + (SELECT count(*) FROM mire.stream_heads)
                        + (SELECT count(*) FROM mire.leases) + (SELECT count(*) FROM mire.grants)";
    assert_eq!(value::<i64>(&mut client, nothing), 0);
    assert_eq!(pid(&mut client), process);
}

#[test]
fn a_payload_of_20_megabytes_comes_back_whole_where_the_limit_allows_it() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("SET mire.max_event_bytes = '64MB'")
        .unwrap();
    let big: String = "0123456789".repeat(2 * MEGABYTE);
    let call =
        "SELECT version FROM mire.append_events('s-1', ARRAY['t'], ARRAY[to_jsonb($1::text)])";
    assert_eq!(client.query_one(call, &[&big]).unwrap().get::<_, i64>(0), 1);
    let read: String = value(&mut client, "SELECT data #>> '{}' FROM mire.read_all()");
    assert!(read == big);
    let too_big = "SELECT mire.append_events('s-1', ARRAY['t'], ARRAY[to_jsonb(repeat('x', 65 * 1024 * 1024))])";
    refused(client.query(too_big, &[]), "MI004");
}

/// Text as a program makes it; `any::<String>()` would spare us the control characters.
fn any_text() -> impl Strategy<Value = String> {
    let rare = proptest::sample::select(
        &[
            '\0', '\u{1}', '\n', '\u{7f}', '\u{85}', '\\', '"', '\'', '$', '%',
        ][..],
    );
    let plain = any::<char>().prop_map(|letter| if letter.is_control() { 'c' } else { letter });
    let letter = prop_oneof![300 => plain, 1 => rare];
    proptest::collection::vec(letter, 0..20).prop_map(String::from_iter)
}

/// JSON as a program makes it: any text, integers, nesting.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any_text(), inner, 0..6)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn has_nul(value: &Value) -> bool {
    value.to_string().contains("\\u0000")
}

#[test]
fn whatever_a_driver_sends_comes_back_as_it_was_or_is_refused() {
    let cases = if std::env::var("MIRE_LONG").is_ok_and(|value| value == "1") {
        20_000
    } else {
        400
    };
    let database = shared().fresh_database().unwrap();
    let client = RefCell::new(connect(&database.url));
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let kept = RefCell::new((0, 0));
    let object = proptest::collection::btree_map(any_text(), any_json(), 0..3);
    let metadata = proptest::option::of(object.prop_map(|map| map.into_iter().collect::<Value>()));
    let call = (any_text(), any_text(), any_json(), metadata);
    runner
        .run(&call, |(stream, kind, data, metadata)| {
            let client = &mut *client.borrow_mut();
            let call = "SELECT version FROM mire.append_events($1, ARRAY[$2], ARRAY[$3::jsonb], ARRAY[$4::jsonb])";
            let bad_name = |name: &str| {
                name.is_empty() || name.starts_with('$') || name.len() > 512 || name.chars().any(char::is_control)
            };
            match client.query_one(call, &[&stream, &kind, &data, &metadata]) {
                Ok(appended) => {
                    kept.borrow_mut().0 += 1;
                    prop_assert!(!bad_name(&stream) && !bad_name(&kind), "{:?} {:?}", stream, kind);
                    let last = "SELECT * FROM mire.read_stream($1, 0, 1, true)";
                    let row = client.query_one(last, &[&stream]).unwrap();
                    prop_assert_eq!(row.get::<_, i64>("version"), appended.get::<_, i64>(0));
                    prop_assert_eq!(row.get::<_, String>("type"), kind);
                    prop_assert_eq!(row.get::<_, Value>("data"), data);
                    prop_assert_eq!(row.get::<_, Option<Value>>("metadata"), metadata);
                }
                Err(error) => {
                    kept.borrow_mut().1 += 1;
                    let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                    let nul = has_nul(&data) || metadata.as_ref().is_some_and(has_nul);
                    let expected: &[&str] = match (stream.contains('\0') || kind.contains('\0'), nul) {
                        (true, true) => &["22021", "22P05"],
                        (true, false) => &["22021"],
                        (false, true) => &["22P05"],
                        (false, false) if bad_name(&stream) || bad_name(&kind) => &["MI004"],
                        (false, false) => &[],
                    };
                    prop_assert!(expected.contains(&code.as_str()), "{:?}", error);
                }
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    println!("(kept and equal, refused): {:?}", kept.borrow());
}

/// A bit of everything; the answer is the same in every session.
fn a_day_in_the_store(client: &mut Client, day: &str) -> String {
    let script = format!(
        r#"SELECT version, duplicate FROM mire.append('{day}-1', $j$[{{"type": "a", "data": {{"x": "q'\"uote"}}}}, {{"type": "b", "data": [1.5]}}]$j$, 0);
           SELECT version FROM mire.append_events('{day}-2', ARRAY['a', 'b'], ARRAY['1', '2']::jsonb[], ARRAY[NULL, '{{}}']::jsonb[]);
           SELECT item, outcome, version FROM mire.append_batch(ARRAY['{day}-1', '{day}-3', '{day}-1'], ARRAY[2, 0, 2], ARRAY[1, 2, 1],
             ARRAY['a', 'a', 'c', 'a'], ARRAY['1', '2', '3', '4']::jsonb[], ARRAY[NULL, NULL, NULL, NULL]::jsonb[]);
           SELECT version, type, data FROM mire.read_stream('{day}-1', 1, 1);
           SELECT version, type, data FROM mire.read_stream('{day}-1', backward => true);
           SELECT mire.save_snapshot('{day}-1', 2, 1, '{{"s": 1}}');
           SELECT version, type, data FROM mire.load_stream('{day}-1', 1);
           SELECT count(*), sum(version) FROM mire.read_all(0, 10000, ARRAY['{day}']);
           SELECT count(*), sum(version) FROM mire.read_all(0, 10000, ARRAY['{day}', 'none'], ARRAY['a']);
           SELECT (l).acquired, (l).holder FROM mire.acquire_lease('{day}', 'me', make_interval(mins => 1)) AS l;
           SELECT held FROM mire.lease_status WHERE resource = '{day}';
           SELECT mire.renew_lease('{day}', fence, make_interval(mins => 1)), mire.assert_lease('{day}', fence) IS NULL
             FROM mire.lease_status WHERE resource = '{day}';
           SELECT version FROM mire.truncate_stream('{day}-1', 3);
           SELECT version FROM mire.delete_stream('{day}-2');
           SELECT version, truncated_before, deleted FROM mire.streams WHERE category = '{day}' ORDER BY stream"#
    );
    let answers = client
        .simple_query(&script)
        .unwrap_or_else(|error| panic!("{day}: {error:?}"));
    let row = |message: &postgres::SimpleQueryMessage| match message {
        postgres::SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned());
            Some(cells.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    answers
        .iter()
        .filter_map(row)
        .collect::<Vec<_>>()
        .join("\n")
        .replace(day, "DAY")
}

#[test]
fn no_setting_of_a_session_changes_what_the_functions_do() {
    let database = shared().fresh_database().unwrap();
    let role = format!("{}_admin", database.name);
    database
        .sql(&format!(
            "CREATE ROLE {role} LOGIN; SELECT mire.grant_access('{role}', 'admin')"
        ))
        .unwrap();
    let url = database.url_as(&role);
    let usual = a_day_in_the_store(&mut connect(&url), "usual");
    assert_eq!(usual.lines().count(), 23, "{usual}");
    let settings = [
        "standard_conforming_strings = off",
        "backslash_quote = on",
        "array_nulls = off",
        "transform_null_equals = on",
        "quote_all_identifiers = on",
        "client_encoding = 'LATIN1'",
        "datestyle = 'German, DMY'",
        "intervalstyle = 'sql_standard'",
        "timezone = 'Pacific/Apia'",
        "extra_float_digits = -15",
        "plpgsql.extra_errors = 'all'",
        "check_function_bodies = off",
        "search_path = ''",
        "search_path = 'pg_temp, public'",
        "plan_cache_mode = force_generic_plan",
        "plan_cache_mode = force_custom_plan",
        "enable_indexscan = off",
        "enable_sort = off",
        "enable_seqscan = off",
        "enable_nestloop = off",
        "work_mem = '64kB'",
        "cursor_tuple_fraction = 0",
        "from_collapse_limit = 1",
        "parallel_setup_cost = 0",
        "jit_above_cost = 0",
        "row_security = off",
        "synchronous_commit = off",
        "default_transaction_deferrable = on",
        "lock_timeout = '1s'",
        "temp_buffers = '800kB'",
    ];
    for (number, setting) in settings.iter().enumerate() {
        let mut client = connect(&url);
        client.batch_execute(&format!("SET {setting}")).unwrap();
        assert_eq!(
            a_day_in_the_store(&mut client, &format!("day{number}")),
            usual,
            "SET {setting}"
        );
    }
    let parallel = match value::<bool>(
        &mut connect(&url),
        "SELECT current_setting('server_version_num')::int >= 160000",
    ) {
        true => "debug_parallel_query",
        false => "force_parallel_mode",
    };
    let mut client = connect(&url);
    client
        .batch_execute(&format!("SET {parallel} = on"))
        .unwrap();
    assert_eq!(a_day_in_the_store(&mut client, "parallel"), usual);
    println!("{} settings, the same answers", settings.len() + 1);
}
