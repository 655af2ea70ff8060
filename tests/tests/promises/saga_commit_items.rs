//! Items of a commit among others: their messages, what makes one invalid or busy, and heartbeats; none stops another.

use mire_tests::saga::{
    answer, change, commit, deliver, held, keys, message, row, start, start_held, started, words,
};
use mire_tests::session::{connect, refused, value, wait_until};
use serde_json::{Value, json};

#[test]
fn messages_go_out_with_the_commit_and_are_taken_back_by_it() {
    let (_database, mut client, fence) = held("1 min");
    let messages: Vec<Value> = ["a", "b", "c", "d"]
        .iter()
        .map(|key| message(key, "mail"))
        .collect();
    commit(
        &mut client,
        &[change(
            "1",
            1,
            Some(fence),
            &json!({"outbox": messages, "keep": true}),
        )],
    );
    let twice = commit(
        &mut client,
        &[change(
            "1",
            2,
            Some(fence),
            &json!({"outbox": [message("a", "mail")], "keep": true}),
        )],
    );
    assert_eq!(
        words(&twice),
        ["invalid"],
        "a key that stands there already"
    );
    client
        .execute("SELECT mire.outbox_claim('sender', NULL, 2, '1 min')", &[])
        .unwrap();
    // a is being sent: nobody knows. c was never touched.
    let item = change(
        "1",
        2,
        Some(fence),
        &json!({"withdraw": ["a", "c", "unknown"], "settled": ["b"]}),
    );
    assert_eq!(words(&commit(&mut client, &[item])), ["committed"]);
    assert_eq!(keys(&mut client), "a in_doubt, d pending");
}

#[test]
fn an_item_settles_what_one_before_it_in_the_same_call_has_sent() {
    let (_database, mut client, fence) = held("1 min");
    let sends = |key| json!({"outbox": [message(key, "mail")], "keep": true});
    let mut settles = sends("b");
    settles["settled"] = json!(["a", "a", "unknown"]);
    let items = [
        change("1", 1, Some(fence), &sends("a")),
        change("1", 2, Some(fence), &settles),
        change("1", 3, Some(fence), &sends("b")),
    ];
    let outcomes = commit(&mut client, &items);
    assert_eq!(words(&outcomes), ["committed", "committed", "invalid"]);
    assert_eq!(keys(&mut client), "b pending");
}

#[test]
fn tables_with_what_a_commit_would_pass_by_are_refused() {
    let (_database, mut client, fence) = held("1 min");
    client
        .batch_execute(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
        .unwrap();
    let sends = |version: i64| {
        let rest = json!({"outbox": [message(&version.to_string(), "mail")], "keep": true});
        change("1", version, Some(fence), &rest)
    };
    let added = "EXECUTE FUNCTION nothing()";
    for (version, table, what) in [
        (1, "sagas", "BEFORE INSERT"),
        (2, "sagas", "AFTER UPDATE"),
        (3, "outbox", "BEFORE INSERT"),
        (4, "outbox", "AFTER DELETE"),
    ] {
        client
            .batch_execute(&format!(
                "CREATE TRIGGER added {what} ON mire.{table} FOR EACH ROW {added}"
            ))
            .unwrap();
        let items = vec![sends(version)];
        let query = "SELECT FROM mire.saga_commit($1, 'me', '1 min')";
        refused(client.query(query, &[&items]), "55000");
        client
            .batch_execute(&format!("DROP TRIGGER added ON mire.{table}"))
            .unwrap();
        assert_eq!(words(&commit(&mut client, &items)), ["committed"]);
    }
}

#[test]
fn a_message_in_somebodys_transaction_makes_the_item_busy_and_keeps_nobody() {
    let (database, mut client, fence) = held("1 min");
    commit(
        &mut client,
        &[change(
            "1",
            1,
            Some(fence),
            &json!({"outbox": [message("a", "mail")], "keep": true}),
        )],
    );
    client
        .batch_execute("SET statement_timeout = '10s'")
        .unwrap();
    let mut other = connect(&database.url);
    let with = |what: &str| {
        let body = json!({what: ["a"], "keep": true});
        [change("1", 2, Some(fence), &body)]
    };
    for (holds, change) in [
        (
            "SELECT mire.outbox_claim('sender', NULL, 2, '1 min')",
            "withdraw",
        ),
        (
            "SELECT mire.outbox_claim('sender', NULL, 2, '1 min')",
            "settled",
        ),
        ("SELECT FROM mire.outbox FOR KEY SHARE", "withdraw"),
        ("SELECT FROM mire.outbox FOR KEY SHARE", "settled"),
    ] {
        other.batch_execute("BEGIN").unwrap();
        other.batch_execute(holds).unwrap();
        assert_eq!(
            words(&commit(&mut client, &with(change))),
            ["busy"],
            "{holds}"
        );
        assert_eq!(
            value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
            2
        );
        other.batch_execute("ROLLBACK").unwrap();
    }
    other
        .batch_execute("SELECT mire.outbox_claim('sender', NULL, 2, '1 min')")
        .unwrap();
    assert_eq!(
        words(&commit(&mut client, &with("withdraw"))),
        ["committed"]
    );
    assert_eq!(keys(&mut client), "a in_doubt");
}

#[test]
fn an_item_waits_for_nobody_and_stops_no_other() {
    let (database, mut client, fence) = held("1 min");
    start(
        &mut client,
        &[started("2", &json!({})), started("3", &json!({}))],
    );
    let mut other = connect(&database.url);
    other.batch_execute("BEGIN").unwrap();
    deliver(&mut other, &[answer("2", &json!({}))]);
    client
        .batch_execute("SET statement_timeout = '5s'")
        .unwrap();
    let items = [
        change("1", 1, Some(fence), &json!({"keep": true})),
        change("2", 1, None, &json!({})),
        json!(17),
        change("no such", 1, None, &json!({})),
        change("3", 1, None, &json!({})),
        // Again in the same call: in order.
        change("1", 2, Some(fence), &json!({"keep": true})),
        change("1", 2, Some(fence), &json!({})),
    ];
    let expected = [
        "committed",
        "busy",
        "invalid",
        "not_found",
        "committed",
        "committed",
        "conflict",
    ];
    assert_eq!(words(&commit(&mut client, &items)), expected);
    other.batch_execute("ROLLBACK").unwrap();
}

#[test]
fn a_malformed_change_is_invalid_and_nothing_of_it_lands() {
    let (_database, mut client, fence) = held("1 min");
    let faults = [
        json!({"version": "1"}),
        json!({"version": 1.5}),
        json!({"version": -1}),
        json!({"version": 1e18}),
        json!({"version": null}),
        json!({"fence": "1"}),
        json!({"fence": [1]}),
        json!({"status": null}),
        json!({"status": "ended"}),
        json!({"facts": null}),
        json!({"facts": "x"}),
        json!({"facts": ["started"]}),
        json!({"facts": [{"fact": "x", "data": "x".repeat(2_000_000)}]}),
        json!({"steps": {"a": 1}}),
        json!({"steps": [null]}),
        json!({"withdraw": "k"}),
        json!({"withdraw": [1]}),
        json!({"settled": [[]]}),
        json!({"failed": 1}),
        json!({"keep": 0}),
        json!({"due_in_ms": 1e300}),
        json!({"due_at": -5}),
        json!({"topology_version": 1}),
        json!({"error": "x".repeat(2_000_000)}),
        json!({"outbox": [message("k", "k"), {"key": "l"}]}),
    ];
    let items: Vec<Value> = faults
        .iter()
        .map(|fault| change("1", 1, Some(fence), fault))
        .collect();
    for (outcome, item) in commit(&mut client, &items).iter().zip(&items) {
        assert_eq!(outcome.outcome, "invalid", "{:.300}", item.to_string());
        assert!(outcome.reason.is_some());
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        1
    );
    refused(
        client.query("SELECT mire.saga_commit('{}', NULL, '1 min')", &[]),
        "MI004",
    );
    refused(
        client.query("SELECT mire.saga_commit('{}', 'me', '1 ms')", &[]),
        "22023",
    );
    refused(
        client.query(
            "SELECT mire.saga_commit('{{null},{null}}', 'me', '1 min')",
            &[],
        ),
        "MI004",
    );
}

/// Heartbeats: one statement, and each instance its own answer.
#[test]
fn heartbeats_keep_what_is_held_and_tell_what_is_lost() {
    let (database, mut client, fence) = held("1 min");
    let held = start_held(
        &mut client,
        &[
            started("2", &json!({"keep": true})),
            started("3", &json!({"keep": true})),
        ],
        "30 ms",
    );
    let (two, three) = (held[0].fence.unwrap(), held[1].fence.unwrap());
    let renew = format!(
        "SELECT string_agg(coalesce(renewed::text, 'busy'), ' ' ORDER BY item)
           FROM mire.saga_renew('{{t,t,t,t,u}}', '{{1,1,2,9,1}}', '{{{fence},{two},{two},1,1}}', '10 min')"
    );
    wait_until("they have expired", || {
        row(&mut client, "2", "lease_expires_at < clock_timestamp()").as_deref() == Some("true")
    });
    assert_eq!(
        value::<String>(&mut client, &renew),
        "true false false false false"
    );
    assert_eq!(
        row(
            &mut client,
            "1",
            "lease_expires_at > clock_timestamp() + '9 min'"
        )
        .as_deref(),
        Some("true")
    );
    assert_ne!(two, three);

    let mut other = connect(&database.url);
    other.batch_execute("BEGIN").unwrap();
    deliver(&mut other, &[answer("1", &json!({}))]);
    client
        .batch_execute("SET statement_timeout = '5s'")
        .unwrap();
    assert_eq!(
        value::<String>(&mut client, &renew),
        "busy busy false false false",
        "never waits, never guesses"
    );
    other.batch_execute("COMMIT").unwrap();
    refused(
        client.query("SELECT mire.saga_renew('{t}', '{1,2}', '{1}', '1 s')", &[]),
        "MI004",
    );
}
