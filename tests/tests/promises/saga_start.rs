//! Instances start once, whoever asks and however often, with all that belongs to them or not at all.

use mire_cluster::{Database, shared};
use mire_tests::saga::{
    Outcome, change, claim, claim_one, commit, leaks, message, row, start, start_held, started,
    words,
};
use mire_tests::session::{connect, pid, refused, value, wait_until, wait_until_blocked};
use postgres::Client;
use serde_json::{Value, json};

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let client = connect(&database.url);
    (database, client)
}

#[test]
fn an_instance_starts_once_and_is_due_at_once() {
    let (_database, mut client) = store();
    let outcomes = start(
        &mut client,
        &[started("1", &json!({"id": "x"})), started("1", &json!({}))],
    );
    assert_eq!(words(&outcomes), ["started", "exists"]);
    assert_eq!(outcomes[1].version, Some(1));
    assert_eq!(
        words(&start(&mut client, &[started("1", &json!({"id": "x"}))])),
        ["duplicate"]
    );
    assert_eq!(
        words(&start(&mut client, &[started("1", &json!({"id": "y"}))])),
        ["exists"]
    );
    let claimed = claim_one(&mut client, "me", "1 min");
    assert_eq!((claimed.version, claimed.attempts), (1, 0));
    assert_eq!(
        claimed.events[0]["facts"],
        json!([{"fact": "started", "state": {}}])
    );
    let now: i64 = value(
        &mut client,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    );
    let at = claimed.events[0]["at"].as_i64().unwrap();
    assert!(
        (0..10_000_000).contains(&(now - at)),
        "{at} is not just before {now}"
    );
    let kind: String = value(
        &mut client,
        "SELECT type FROM mire.read_stream('$saga:t-1')",
    );
    assert_eq!(kind, "$saga_started");
}

#[test]
fn what_starts_with_more_facts_is_due_when_it_says() {
    let (_database, mut client) = store();
    let facts = json!([{"fact": "started", "state": 1}, {"fact": "abandoned", "step": "x"}]);
    let items = [
        started("waits", &json!({"facts": facts, "steps": ["x"]})),
        started(
            "later",
            &json!({"facts": facts, "steps": ["x"], "due_in_ms": 60_000}),
        ),
        started(
            "sooner",
            &json!({"facts": facts, "steps": ["x"], "due_in_ms": 60_000, "due_at": 1_000_000}),
        ),
        started(
            "over",
            &json!({"facts": facts, "status": "completed", "due_in_ms": 5}),
        ),
    ];
    assert_eq!(words(&start(&mut client, &items)), ["started"; 4]);
    assert_eq!(row(&mut client, "waits", "due_at"), None);
    assert_eq!(
        row(&mut client, "later", "due_at > clock_timestamp() + '50 s'").as_deref(),
        Some("true")
    );
    assert_eq!(
        row(&mut client, "sooner", "extract(epoch FROM due_at)::int").as_deref(),
        Some("1")
    );
    assert_eq!(
        row(
            &mut client,
            "over",
            "due_at IS NULL AND ended_at IS NOT NULL"
        )
        .as_deref(),
        Some("true")
    );
    assert_eq!(claim_one(&mut client, "me", "1 min").instance, "sooner");
    assert!(leaks(&mut client).is_empty());
}

#[test]
fn the_starter_can_hold_it_and_drive_it_on() {
    let (_database, mut client) = store();
    let held = start_held(
        &mut client,
        &[
            started("1", &json!({"keep": true})),
            started("2", &json!({})),
        ],
        "1 min",
    );
    assert_eq!(held[1].fence, None);
    let (claimed, wait) = claim(&mut client, "other", 10, "2 min");
    assert_eq!(
        claimed
            .iter()
            .map(|c| c.instance.as_str())
            .collect::<Vec<_>>(),
        ["2"]
    );
    assert!(
        (50.0..60.1).contains(&wait.unwrap()),
        "when the first one's lease ends: {wait:?}"
    );
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 1, held[0].fence, &json!({}))]
        )),
        ["committed"]
    );
    let without = start(&mut client, &[started("3", &json!({"keep": true}))]);
    assert_eq!(words(&without), ["invalid"]);
}

#[test]
fn a_start_sent_again_is_answered_as_the_first_time_until_somebody_goes_on() {
    let (_database, mut client) = store();
    let item = [started("1", &json!({"id": "x", "keep": true}))];
    let first = start_held(&mut client, &item, "1 min");
    let told = |outcome: &Outcome| (outcome.outcome.clone(), outcome.version, outcome.fence);
    let again = start_held(&mut client, &item, "1 min");
    assert_eq!(
        told(&again[0]),
        ("duplicate".into(), Some(1), first[0].fence)
    );
    let other = [started("1", &json!({"id": "y", "keep": true}))];
    let other = start_held(&mut client, &other, "1 min");
    assert_eq!(told(&other[0]), ("exists".into(), Some(1), None));
    let goes_on = change("1", 1, first[0].fence, &json!({"keep": true}));
    assert_eq!(words(&commit(&mut client, &[goes_on])), ["committed"]);
    let late = start_held(&mut client, &item, "1 min");
    assert_eq!(told(&late[0]), ("duplicate".into(), Some(1), None));
}

#[test]
fn a_start_that_comes_twice_in_one_call_gets_the_first_answer() {
    let (_database, mut client) = store();
    let item = started("1", &json!({"id": "x", "keep": true}));
    let both = start_held(&mut client, &[item.clone(), item], "1 min");
    assert_eq!(words(&both), ["started", "duplicate"]);
    assert_eq!(
        (both[1].version, both[1].fence),
        (both[0].version, both[0].fence)
    );
}

#[test]
fn the_same_holders_later_lease_is_not_given_to_a_start_sent_again() {
    let (_database, mut client) = store();
    let item = [started("1", &json!({"id": "x", "keep": true}))];
    start_held(&mut client, &item, "10 ms");
    let holder: String = row(&mut client, "1", "holder").unwrap();
    wait_until("its lease has expired", || {
        value(
            &mut client,
            "SELECT lease_expires_at <= clock_timestamp() FROM mire.sagas",
        )
    });
    claim_one(&mut client, &holder, "1 min");
    let again = start_held(&mut client, &item, "1 min");
    assert_eq!(
        (again[0].outcome.as_str(), again[0].fence),
        ("duplicate", None)
    );
}

#[test]
fn a_start_waits_for_another_of_the_same_instance_and_for_nobody_else() {
    let (database, mut client) = store();
    for (end, expected) in [("ROLLBACK", "started"), ("COMMIT", "exists")] {
        let mut other = connect(&database.url);
        other.batch_execute("BEGIN").unwrap();
        let name = end.to_lowercase();
        assert_eq!(
            words(&start(&mut other, &[started(&name, &json!({}))])),
            ["started"]
        );
        assert_eq!(
            words(&start(
                &mut client,
                &[started(&format!("not-{name}"), &json!({}))]
            )),
            ["started"]
        );
        let waiter = pid(&mut client);
        let outcomes = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| start(&mut client, &[started(&name, &json!({}))]));
            wait_until_blocked(&database, waiter);
            other.batch_execute(end).unwrap();
            waiting.join().unwrap()
        });
        assert_eq!(words(&outcomes), [expected]);
    }
}

#[test]
fn a_start_belongs_to_the_transaction_that_appends_the_trigger() {
    let (_database, mut client) = store();
    let mut transaction = client.transaction().unwrap();
    let event = json!([{"type": "ordered", "data": {}}]);
    mire_tests::session::append(&mut transaction, "order-1", &event, None).unwrap();
    start(
        &mut transaction,
        &[started(
            "order-1",
            &json!({"outbox": [message("k", "mail")]}),
        )],
    );
    transaction.rollback().unwrap();
    let left: i64 = value(
        &mut client,
        "SELECT (SELECT count(*) FROM mire.sagas) + (SELECT count(*) FROM mire.outbox) + (SELECT count(*) FROM mire.streams)",
    );
    assert_eq!(left, 0);
}

/// Whatever is wrong with an item is its own affair.
#[test]
fn a_malformed_item_is_invalid_and_stops_no_other() {
    let (_database, mut client) = store();
    let good = started("good", &json!({}));
    let mut bad: Vec<Option<Value>> = vec![None];
    bad.extend([json!(1), json!("x"), json!([]), json!({}), json!(null)].map(Some));
    let faults = [
        json!({"saga": 5}),
        json!({"saga": "a-b"}),
        json!({"saga": "$t"}),
        json!({"saga": ""}),
        json!({"saga": null}),
        json!({"saga": "x".repeat(2001)}),
        json!({"instance": ""}),
        json!({"instance": "a\nb"}),
        json!({"instance": "$i"}),
        json!({"instance": "x".repeat(2000)}),
        json!({"topology_version": -1}),
        json!({"topology_version": 1.5}),
        json!({"topology_version": "1"}),
        json!({"topology_version": 1e30}),
        json!({"topology_version": null}),
        json!({"facts": {}}),
        json!({"facts": []}),
        json!({"facts": [1]}),
        json!({"facts": [[{"fact": "started"}]]}),
        json!({"facts": [{"fact": "completed"}]}),
        json!({"facts": [{"fact": "started"}, {"fact": 1}]}),
        json!({"facts": [{"fact": "started", "state": "x".repeat(2_000_000)}]}),
        json!({"status": "asleep"}),
        json!({"status": 1}),
        json!({"steps": "a"}),
        json!({"steps": [1]}),
        json!({"due_at": "2030-01-01"}),
        json!({"due_at": 999_999_999_999_999_999_i64}),
        json!({"due_in_ms": -1}),
        json!({"due_in_ms": 999_999_999_999_999_999_i64}),
        json!({"keep": "yes"}),
        json!({"id": 7}),
        json!({"error": []}),
        json!({"unknown": 1}),
        json!({"outbox": {}}),
        json!({"outbox": [1]}),
        json!({"outbox": [{}]}),
        json!({"outbox": [message("", "k")]}),
        json!({"outbox": [message(&"x".repeat(2001), "k")]}),
        json!({"outbox": [message("k", "")]}),
        json!({"outbox": [message("k", "k"), message("k", "k")]}),
        json!({"outbox": [{"key": "k", "step": "a", "activation": -1, "kind": "k"}]}),
        json!({"outbox": [{"key": "k", "step": "a", "activation": 1, "kind": "k", "more": 1}]}),
    ];
    bad.extend(faults.iter().map(|fault| Some(started("bad", fault))));
    let mut items = bad.clone();
    items.push(Some(good));
    let rows = client
        .query("SELECT outcome, reason FROM mire.saga_start($1)", &[&items])
        .unwrap();
    for (item, row) in bad.iter().zip(&rows) {
        assert_eq!(row.get::<_, &str>(0), "invalid", "{item:?}");
        assert!(
            row.get::<_, Option<&str>>(1)
                .is_some_and(|reason| !reason.is_empty()),
            "{item:?}"
        );
    }
    assert_eq!(rows.last().unwrap().get::<_, &str>(0), "started");
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.sagas"),
        1
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.stream_heads"),
        1
    );
    let dash = start(&mut client, &[started("x", &json!({"saga": "a-b"}))]).remove(0);
    let Outcome {
        reason: Some(reason),
        ..
    } = dash
    else {
        panic!("no reason")
    };
    assert!(reason.contains("\"-\""), "{reason}");
    refused(client.query("SELECT mire.saga_start(NULL)", &[]), "MI004");
}

/// Nobody but the functions of sagas writes or erases an instance's stream.
#[test]
fn an_instances_stream_is_the_stores_own() {
    let (_database, mut client) = store();
    start(&mut client, &[started("1", &json!({}))]);
    for call in [
        "mire.append('$saga:t-1', '[{\"type\": \"t\", \"data\": 1}]')",
        "mire.append_events('$saga:t-1', '{t}', '{1}')",
        "mire.delete_stream('$saga:t-1')",
        "mire.truncate_stream('$saga:t-1', 2)",
        "mire.save_snapshot('$saga:t-1', 1, 1, '{}')",
    ] {
        refused(client.query(&format!("SELECT {call}"), &[]), "MI004");
    }
    let batch =
        "SELECT outcome FROM mire.append_batch('{$saga:t-1}', '{NULL}', '{1}', '{t}', '{1}')";
    assert_eq!(value::<String>(&mut client, batch), "invalid");
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        1
    );
}
