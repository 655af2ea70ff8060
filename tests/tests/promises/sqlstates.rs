//! SQLSTATEs are API: each one raised as documented, with MESSAGE, a JSON DETAIL with these keys, and a HINT; and
//! docs/ERRORS.md lists every code that the SQL raises.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, refused};
use postgres::error::DbError;
use postgres::{Client, IsolationLevel};
use serde_json::{Value, json};

/// A session, and a stream to fail on.
fn with_store(test: impl FnOnce(&mut Client)) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(2), Some(0)).unwrap();
    test(&mut client);
}

/// The DETAIL, after a look at the rest: a message for people, a hint, and no more keys than documented.
#[track_caller]
fn detail(said: &DbError, keys: &[&str]) -> Value {
    assert!(!said.message().is_empty());
    assert!(
        said.hint().is_some_and(|hint| !hint.is_empty()),
        "no HINT: {said:?}"
    );
    let detail: Value = serde_json::from_str(said.detail().expect("a DETAIL")).expect("JSON");
    let there: BTreeSet<&str> = detail
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(there, keys.iter().copied().collect());
    detail
}

#[test]
fn mi001_tells_the_expected_and_the_actual_version() {
    with_store(|client| {
        let said = refused(append(client, "s-1", &events(1), Some(7)), "MI001");
        let detail = detail(&said, &["stream", "expected", "actual"]);
        assert_eq!(detail, json!({"stream": "s-1", "expected": 7, "actual": 2}));
    });
}

#[test]
fn mi002_tells_the_stream_that_is_missing() {
    with_store(|client| {
        let said = refused(append(client, "s-2", &events(1), Some(-1)), "MI002");
        assert_eq!(detail(&said, &["stream"]), json!({"stream": "s-2"}));
    });
}

#[test]
fn mi003_tells_why_the_lease_is_lost() {
    with_store(|client| {
        let mut assert =
            |fence: i64| client.query_one("SELECT mire.assert_lease('r', $1)", &[&fence]);
        let said = refused(assert(1), "MI003");
        let never = detail(&said, &["resource", "fence", "reason"]);
        assert_eq!(
            (&never["resource"], &never["fence"]),
            (&json!("r"), &json!(1))
        );
        client
            .execute("SELECT mire.acquire_lease('r', 'me', '1 h')", &[])
            .unwrap();
        let said = refused(
            client.query_one("SELECT mire.assert_lease('r', 99)", &[]),
            "MI003",
        );
        assert!(detail(&said, &["resource", "fence", "reason"])["reason"].is_string());
    });
}

#[test]
fn mi004_tells_item_field_and_reason() {
    with_store(|client| {
        let second = json!([{"type": "t", "data": 1}, {"type": "t"}]);
        let said = refused(append(client, "s-1", &second, None), "MI004");
        let event = detail(&said, &["item", "field", "reason"]);
        assert_eq!(
            (&event["item"], &event["field"]),
            (&json!(2), &json!("event"))
        );
        let said = refused(append(client, "", &events(1), None), "MI004");
        let name = detail(&said, &["item", "field", "reason"]);
        assert_eq!(
            (&name["item"], &name["field"]),
            (&Value::Null, &json!("stream"))
        );
    });
}

#[test]
fn mi005_tells_the_stream_that_was_deleted() {
    with_store(|client| {
        client
            .execute("SELECT mire.delete_stream('s-1')", &[])
            .unwrap();
        let said = refused(append(client, "s-1", &events(1), None), "MI005");
        assert_eq!(detail(&said, &["stream"]), json!({"stream": "s-1"}));
    });
}

#[test]
fn mi006_tells_the_operation_that_would_change_history() {
    with_store(|client| {
        for (statement, operation) in [
            ("UPDATE mire.events SET data = '1'", "UPDATE"),
            ("DELETE FROM mire.events", "DELETE"),
            ("TRUNCATE mire.events", "TRUNCATE"),
        ] {
            let said = refused(client.simple_query(statement), "MI006");
            assert_eq!(
                detail(&said, &["operation"]),
                json!({"operation": operation})
            );
        }
    });
}

#[test]
fn mi007_tells_why_the_feed_is_unsafe_here() {
    with_store(|client| {
        for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
            for call in ["SELECT mire.read_all()", "SELECT mire.safe_position()"] {
                let mut strict = client
                    .build_transaction()
                    .isolation_level(level)
                    .start()
                    .unwrap();
                let said = refused(strict.query(call, &[]), "MI007");
                assert!(detail(&said, &["reason"])["reason"].is_string());
            }
        }
        let said = refused(client.query("SELECT mire.read_all(1000000)", &[]), "MI007");
        detail(&said, &["reason"]);
    });
}

#[test]
fn a_number_out_of_range_tells_its_field_and_what_is_allowed() {
    with_store(|client| {
        for (call, field) in [
            ("SELECT mire.append('s-1', '[]', -2)", "expected_version"),
            ("SELECT mire.read_stream('s-1', -1)", "after_version"),
            ("SELECT mire.read_stream('s-1', 0, 0)", "max_count"),
            ("SELECT mire.read_all(-1)", "after_position"),
            ("SELECT mire.read_all(0, 0)", "max_count"),
            ("SELECT mire.acquire_lease('r', 'me', '1 ms')", "ttl"),
            ("SELECT mire.renew_lease('r', 1, '2 days')", "ttl"),
            ("SELECT mire.save_snapshot('s-1', 0, 1, '{}')", "version"),
            ("SELECT mire.truncate_stream('s-1', 1)", "before_version"),
            ("SELECT mire.grant_access('postgres', 'owner')", "level"),
        ] {
            let said = refused(client.query(call, &[]), "22023");
            assert_eq!(
                detail(&said, &["field", "allowed"])["field"],
                field,
                "{call}"
            );
        }
        for timeout in ["-1 s", "2 days", "-2147483648 days"] {
            let said = refused(
                client.simple_query(&format!("CALL mire.wait_for_events(0, '{timeout}')")),
                "22023",
            );
            assert!(said.hint().is_some());
        }
        refused(
            client.simple_query("CALL mire.wait_for_events(-1, '1 s')"),
            "22023",
        );
    });
}

#[test]
fn waiting_inside_a_transaction_block_is_25001_with_a_hint() {
    with_store(|client| {
        let mut open = client.transaction().unwrap();
        let said = refused(
            open.simple_query("CALL mire.wait_for_events(0, '1 s')"),
            "25001",
        );
        assert!(said.hint().is_some_and(|hint| !hint.is_empty()));
        open.rollback().unwrap();
        let inside = "DO $$ DECLARE p bigint; e bigint; BEGIN CALL mire.wait_for_events(0, '1 s', p, e); END $$; SELECT 1";
        refused(client.simple_query(inside), "25001");
    });
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn text_of(folder: &Path, ending: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &text_of(&path, ending);
        } else if path.to_string_lossy().ends_with(ending) {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn the_table_of_errors_lists_every_code_that_is_raised() {
    let table = std::fs::read_to_string(project("docs/ERRORS.md")).unwrap();
    let sql = text_of(&project("sql"), ".sql");
    // Postgres's names of the conditions that we raise by name.
    let names = [
        ("invalid_parameter_value", "22023"),
        ("undefined_object", "42704"),
        ("feature_not_supported", "0A000"),
        ("serialization_failure", "40001"),
        ("duplicate_object", "42710"),
        ("object_not_in_prerequisite_state", "55000"),
        ("invalid_role_specification", "0P000"),
    ];
    let mut raised = BTreeSet::new();
    for (_, after) in sql
        .match_indices("ERRCODE = '")
        .map(|(at, lead)| sql.split_at(at + lead.len()))
    {
        let code = after.split('\'').next().unwrap();
        let code = names
            .iter()
            .find(|(name, _)| *name == code)
            .map_or(code, |(_, code)| code);
        assert_eq!(code.len(), 5, "teach this test the condition {code}");
        raised.insert(code.to_owned());
    }
    assert!(raised.len() >= 9, "{raised:?}");
    // Raised by native code, see pg_mire/src.
    raised.extend(["25001", "55006"].map(str::to_owned));
    let listed: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next())
        .flat_map(|codes| codes.split(['`', ',', ' ']))
        .filter(|code| code.len() == 5)
        .collect();
    for code in &raised {
        assert!(
            listed.contains(code.as_str()),
            "docs/ERRORS.md does not list {code}"
        );
    }
    // And of our own class it lists nothing that nobody raises.
    for code in listed.iter().filter(|code| code.starts_with("MI")) {
        assert!(
            raised.contains(*code),
            "docs/ERRORS.md lists {code}, which nobody raises"
        );
    }
    println!("{} codes raised, all listed: {raised:?}", raised.len());
}
