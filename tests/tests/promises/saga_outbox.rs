//! The outbox: order within an instance, leases, retries with backoff, dead letters that are a step's failure, and answers that
//! come with the acknowledgement in one transaction.

use mire_cluster::{Database, shared};
use mire_tests::saga::{
    ack, answer, change, commit, deliver, end, leaks, message, row, start, started, words,
};
use mire_tests::session::{connect, refused, value, wait_until};
use postgres::Client;
use serde_json::{Value, json};

/// Instances 1 and 2, with messages 1/a, 1/b, 1/c and 2/a.
fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let facts = json!([{"fact": "started"}, {"fact": "activated", "step": "a"}]);
    let one = [
        message("1/a", "mail"),
        message("1/b", "charge"),
        message("1/c", "mail"),
    ];
    start(
        &mut client,
        &[
            started("1", &json!({"facts": facts, "steps": ["a"], "outbox": one})),
            started(
                "2",
                &json!({"facts": facts, "steps": ["a"], "outbox": [message("2/a", "mail"), message("2/$", "$answer")]}),
            ),
        ],
    );
    (database, client)
}

#[derive(Debug)]
struct Message {
    no: i64,
    key: String,
    attempts: i32,
    fence: i64,
}

fn take(client: &mut Client, kinds: &str, max: i32, ttl: &str) -> (Vec<Message>, Option<f64>) {
    let query = format!(
        "SELECT *, extract(epoch FROM next_due_at - clock_timestamp())::float8 AS wait
           FROM mire.outbox_claim('sender', {kinds}, {max}, '{ttl}')"
    );
    let rows = client.query(&query, &[]).unwrap();
    let (last, rows) = rows.split_last().unwrap();
    let message = |row: &postgres::Row| Message {
        no: row.get("message_no"),
        key: row.get("key"),
        attempts: row.get("attempts"),
        fence: row.get("fence"),
    };
    (rows.iter().map(message).collect(), last.get("wait"))
}

fn keys(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| m.key.as_str()).collect()
}

fn said(message: &Message, outcome: &str, more: &Value) -> Value {
    let mut item = json!({"message_no": message.no, "fence": message.fence, "outcome": outcome});
    for (key, value) in more.as_object().into_iter().flatten() {
        item[key] = value.clone();
    }
    item
}

fn status(client: &mut Client, key: &str) -> Option<String> {
    let row = client.query_opt(
        "SELECT concat_ws(' ', status, attempts, error) FROM mire.outbox_status WHERE key = $1",
        &[&key],
    );
    row.unwrap().map(|row| row.get(0))
}

#[test]
fn messages_come_in_order_and_only_once() {
    let (_database, mut client) = store();
    // The first ones of all instances come before what follows them.
    let (first, _) = take(&mut client, "NULL", 2, "1 min");
    assert_eq!(keys(&first), ["1/a", "2/a"]);
    let (none, wait) = take(&mut client, "NULL", 9, "1 min");
    assert_eq!(
        keys(&none),
        Vec::<&str>::new(),
        "1/b would overtake what is just being sent"
    );
    assert!(
        wait.unwrap() < 1.01,
        "it waits for an earlier one: {wait:?}"
    );
    assert_eq!(
        keys(&take(&mut client, "'{$answer}'", 9, "1 min").0),
        Vec::<&str>::new(),
        "an internal one waits its turn too"
    );
    let sent = |client: &mut Client, message: &Message| {
        assert_eq!(
            words(&ack(client, &[said(message, "sent", &json!({}))])),
            ["sent"]
        )
    };
    sent(&mut client, &first[0]);
    assert_eq!(
        keys(&take(&mut client, "NULL", 9, "1 min").0),
        ["1/b", "1/c"]
    );
    sent(&mut client, &first[1]);
    assert_eq!(
        keys(&take(&mut client, "'{$answer}'", 9, "1 min").0),
        ["2/$"]
    );
    assert_eq!(status(&mut client, "1/a").as_deref(), Some("sent 1"));
}

#[test]
fn what_stands_behind_a_message_in_somebodys_transaction_is_not_taken() {
    let (database, mut client) = store();
    let mut other = connect(&database.url);
    other
        .batch_execute("BEGIN; SELECT FROM mire.outbox WHERE key = '1/b' FOR UPDATE")
        .unwrap();
    client
        .batch_execute("SET statement_timeout = '5s'")
        .unwrap();
    assert_eq!(
        keys(&take(&mut client, "NULL", 9, "1 min").0),
        ["1/a", "2/a"]
    );
    other.batch_execute("ROLLBACK").unwrap();
}

#[test]
fn what_is_not_due_yet_is_not_taken_along_with_what_stands_before_it() {
    let (_database, mut client) = store();
    let (taken, _) = take(&mut client, "NULL", 3, "1 min");
    assert_eq!(keys(&taken), ["1/a", "1/b", "2/a"]);
    let items = [
        said(&taken[0], "retry", &json!({"delay_ms": 0})),
        said(&taken[1], "retry", &json!({"delay_ms": 3_600_000})),
    ];
    assert_eq!(words(&ack(&mut client, &items)), ["retried", "retried"]);
    assert_eq!(keys(&take(&mut client, "NULL", 9, "1 min").0), ["1/a"]);
}

#[test]
fn a_kind_that_nobody_here_sends_holds_back_what_comes_after_it() {
    let (_database, mut client) = store();
    assert_eq!(
        keys(&take(&mut client, "'{mail}'", 9, "1 min").0),
        ["1/a", "2/a"]
    );
    assert_eq!(
        keys(&take(&mut client, "'{charge}'", 9, "1 min").0),
        Vec::<&str>::new()
    );
}

#[test]
fn a_lease_that_ran_out_is_taken_over_and_its_holder_refused() {
    let (_database, mut client) = store();
    let (lost, _) = take(&mut client, "NULL", 1, "20 ms");
    let mut again = Vec::new();
    wait_until("it can be taken again", || {
        again = take(&mut client, "'{mail}'", 1, "1 min").0;
        keys(&again) == ["1/a"]
    });
    assert_eq!((lost[0].attempts, again[0].attempts), (0, 1));
    assert!(again[0].fence > lost[0].fence);
    for outcome in ["sent", "retry", "dead"] {
        assert_eq!(
            words(&ack(&mut client, &[said(&lost[0], outcome, &json!({}))])),
            ["lease_lost"]
        );
    }
    let renew = |fence: i64| {
        format!(
            "SELECT renewed FROM mire.outbox_renew('{{{}}}', '{{{fence}}}', '1 min')",
            lost[0].no
        )
    };
    assert!(!value::<bool>(&mut client, &renew(lost[0].fence)));
    assert!(value::<bool>(&mut client, &renew(again[0].fence)));
    assert_eq!(
        words(&ack(&mut client, &[said(&again[0], "sent", &json!({}))])),
        ["sent"]
    );
    assert!(
        !value::<bool>(&mut client, &renew(again[0].fence)),
        "nothing is left to hold"
    );
}

#[test]
fn a_retry_backs_off_and_holds_back_its_instance_alone() {
    let (_database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 1, "1 min");
    let later = json!({"delay_ms": 300, "error": "503"});
    assert_eq!(
        words(&ack(&mut client, &[said(&first[0], "retry", &later)])),
        ["retried"]
    );
    assert_eq!(status(&mut client, "1/a").as_deref(), Some("pending 1 503"));
    let (others, wait) = take(&mut client, "NULL", 9, "1 min");
    assert_eq!(keys(&others), ["2/a"]);
    assert!(wait.unwrap() < 0.31, "{wait:?}");
    let mut again = Vec::new();
    wait_until("it is due again", || {
        again = take(&mut client, "NULL", 1, "1 min").0;
        !again.is_empty()
    });
    assert_eq!((again[0].key.as_str(), again[0].attempts), ("1/a", 1));
    ack(&mut client, &[said(&again[0], "retry", &json!({}))]);
    let doubling = "SELECT due_at BETWEEN clock_timestamp() + '1 s' AND clock_timestamp() + '2 s' FROM mire.outbox WHERE key = '1/a'";
    assert!(value::<bool>(&mut client, doubling));
}

#[test]
fn a_response_is_the_steps_answer_in_the_same_transaction() {
    let (_database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 3, "1 min");
    let response = json!({"response": {"type": "mailed", "data": {"id": 7}}});
    let mut transaction = client.transaction().unwrap();
    ack(&mut transaction, &[said(&first[0], "sent", &response)]);
    transaction.rollback().unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        1
    );
    let items = [
        said(&first[0], "sent", &response),
        said(
            &first[1],
            "sent",
            &json!({"response": {"ok": false, "error": "no money"}}),
        ),
    ];
    let outcomes = ack(&mut client, &items);
    assert_eq!(
        (words(&outcomes), outcomes[0].version, outcomes[1].version),
        (vec!["sent", "sent"], Some(2), Some(3))
    );
    let facts: Value = value(
        &mut client,
        "SELECT jsonb_agg(fact - 'fact' - 'step' ORDER BY version) FROM mire.saga_history('t', '1') WHERE version > 1",
    );
    let expected = json!([
        {"activation": 1, "request": 0, "ok": true, "type": "mailed", "data": {"id": 7}},
        {"activation": 1, "request": 0, "ok": false, "data": null, "error": "no money"}
    ]);
    assert_eq!(facts, expected);
    assert_eq!(status(&mut client, "1/a"), None);
    assert_eq!(
        row(&mut client, "1", "due_at <= clock_timestamp()").as_deref(),
        Some("true")
    );
    assert_eq!(words(&ack(&mut client, &items)), ["not_found"; 2]);
    let elsewhere = deliver(&mut client, &[answer("1", &json!({"id": "1/a"}))]);
    assert_eq!(
        words(&elsewhere),
        ["duplicate"],
        "an answer without an id has the key"
    );
}

#[test]
fn a_dead_letter_fails_its_step_and_can_be_sent_again() {
    let (_database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 1, "1 min");
    let outcome = ack(
        &mut client,
        &[said(&first[0], "dead", &json!({"error": "gone for good"}))],
    );
    assert_eq!(
        (outcome[0].outcome.as_str(), outcome[0].version),
        ("dead", Some(2))
    );
    let fact: Value = value(
        &mut client,
        "SELECT fact FROM mire.saga_history('t', '1') WHERE version = 2",
    );
    assert_eq!(
        (&fact["ok"], &fact["error"]),
        (&json!(false), &json!("gone for good"))
    );
    assert_eq!(
        words(&ack(&mut client, &[said(&first[0], "dead", &json!({}))])),
        ["dead"],
        "told again, recorded once"
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        2
    );
    assert_eq!(
        status(&mut client, "1/a").as_deref(),
        Some("dead 1 gone for good")
    );
    assert_eq!(
        keys(&take(&mut client, "NULL", 9, "1 min").0),
        ["1/b", "1/c", "2/a"],
        "the others go on"
    );
    // The engine has seen the failure: the letter stays for an operator.
    commit(
        &mut client,
        &[change("1", 2, None, &json!({"settled": ["1/a"]}))],
    );
    client
        .execute("SELECT mire.outbox_retry($1)", &[&first[0].no])
        .unwrap();
    let (again, _) = take(&mut client, "NULL", 9, "1 min");
    assert_eq!((keys(&again), again[0].attempts), (vec!["1/a"], 0));
    let late = ack(
        &mut client,
        &[said(&again[0], "sent", &json!({"response": {}}))],
    );
    assert_eq!(
        (late[0].outcome.as_str(), late[0].version),
        ("sent", Some(4)),
        "its answer is no duplicate of the failure"
    );
    refused(
        client.execute("SELECT mire.outbox_retry($1)", &[&(first[0].no + 1)]),
        "MI009",
    );
    let said = refused(client.execute("SELECT mire.outbox_retry(99)", &[]), "MI008");
    assert!(said.detail().unwrap().contains("99"));
}

#[test]
fn a_dead_letter_sent_again_leaves_nothing_behind() {
    let (_database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 1, "1 min");
    let dead = |message: &Message| said(message, "dead", &json!({}));
    ack(&mut client, &[dead(&first[0])]);
    let turned = json!({
        "status": "compensating", "steps": ["undo"], "settled": ["1/a"], "withdraw": ["1/b", "1/c"],
    });
    commit(&mut client, &[change("1", 2, None, &turned)]);
    let retry = |client: &mut Client| {
        let retried = client.execute("SELECT mire.outbox_retry($1)", &[&first[0].no]);
        retried.unwrap();
        let mut taken = take(client, "'{mail}'", 9, "1 min").0;
        let place = taken.iter().position(|m| m.key == "1/a").unwrap();
        taken.swap_remove(place)
    };

    let again = retry(&mut client);
    assert_eq!(words(&ack(&mut client, &[dead(&again)])), ["dead"]);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        3,
        "its step has failed already"
    );

    let again = retry(&mut client);
    assert_eq!(
        words(&ack(&mut client, &[said(&again, "sent", &json!({}))])),
        ["sent"]
    );
    assert_eq!(status(&mut client, "1/a"), None, "nobody would settle it");
    end(&mut client, "1", 3);
    assert_eq!(leaks(&mut client), Vec::<String>::new());
    let pruned: i64 = value(&mut client, "SELECT mire.saga_prune('0 s')");
    assert_eq!(pruned, 1);
}

#[test]
fn what_was_sent_and_is_withdrawn_before_its_answer_is_in_doubt() {
    let (_database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 1, "1 min");
    ack(&mut client, &[said(&first[0], "sent", &json!({}))]);
    assert_eq!(status(&mut client, "1/a").as_deref(), Some("sent 1"));
    let withdraw = json!({"withdraw": ["1/a"]});
    let done = commit(&mut client, &[change("1", 1, None, &withdraw)]);
    assert_eq!(words(&done), ["committed"]);
    assert_eq!(status(&mut client, "1/a").as_deref(), Some("in_doubt 1"));
}

#[test]
fn what_was_withdrawn_while_it_was_being_sent_stays_in_doubt_until_it_is_answered() {
    let (_database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 2, "1 min");
    commit(
        &mut client,
        &[change(
            "1",
            1,
            None,
            &json!({"withdraw": ["1/a", "1/b", "1/c"]}),
        )],
    );
    assert_eq!(
        (
            status(&mut client, "1/a").as_deref(),
            status(&mut client, "1/c")
        ),
        (Some("in_doubt 1"), None)
    );
    let items = [
        said(&first[0], "sent", &json!({})),
        said(&first[1], "dead", &json!({"error": "refused"})),
    ];
    assert_eq!(words(&ack(&mut client, &items)), ["sent", "dead"]);
    assert_eq!(status(&mut client, "1/a").as_deref(), Some("in_doubt 1"));
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        2,
        "nobody waits for it: no failure"
    );
    assert_eq!(
        words(&ack(
            &mut client,
            &[said(&first[0], "sent", &json!({"response": {}}))]
        )),
        ["sent"]
    );
    assert_eq!(
        status(&mut client, "1/a"),
        None,
        "an answer resolves the doubt"
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        3
    );
}

#[test]
fn a_message_of_an_ended_instance_goes_when_it_is_sent() {
    let (_database, mut client) = store();
    let end = json!({"status": "completed", "steps": [], "withdraw": ["2/a"]});
    commit(&mut client, &[change("2", 1, None, &end)]);
    assert!(
        leaks(&mut client).is_empty(),
        "an internal message may outlive its instance"
    );
    let (last, _) = take(&mut client, "'{$answer}'", 9, "1 min");
    ack(&mut client, &[said(&last[0], "sent", &json!({}))]);
    assert_eq!(
        value::<i64>(
            &mut client,
            "SELECT count(*) FROM mire.outbox WHERE instance = '2'"
        ),
        0
    );
}

#[test]
fn malformed_acknowledgements_are_invalid_and_busy_ones_wait_for_nobody() {
    let (database, mut client) = store();
    let (first, _) = take(&mut client, "NULL", 1, "1 min");
    let faults = [
        json!({"message_no": "1"}),
        json!({"message_no": -1}),
        json!({"message_no": 1e40}),
        json!({"fence": null}),
        json!({"outcome": "lost"}),
        json!({"outcome": 1}),
        json!({"delay_ms": -1}),
        json!({"delay_ms": 999_999_999_999_999_999_i64}),
        json!({"error": {}}),
        json!({"response": "ok"}),
        json!({"response": {"ok": "no"}}),
        json!({"response": {"step": "a"}}),
        json!({"response": {}, "outcome": "dead"}),
        json!({"response": {"data": "x".repeat(2_000_000)}}),
        json!({"more": 1}),
    ];
    let mut items: Vec<Value> = faults
        .iter()
        .map(|fault| said(&first[0], "sent", fault))
        .collect();
    items.extend([json!([]), json!({})]);
    for (outcome, item) in ack(&mut client, &items).iter().zip(&items) {
        assert_eq!(outcome.outcome, "invalid", "{:.200}", item.to_string());
    }
    let unknown = json!({"message_no": 999, "fence": 1, "outcome": "sent"});
    let never_claimed = json!({"message_no": first[0].no + 1, "fence": 0, "outcome": "sent"});
    assert_eq!(
        words(&ack(&mut client, &[unknown, never_claimed])),
        ["not_found", "lease_lost"]
    );
    let mut other = connect(&database.url);
    other
        .batch_execute("BEGIN; SELECT FROM mire.outbox FOR UPDATE")
        .unwrap();
    client
        .batch_execute("SET statement_timeout = '5s'")
        .unwrap();
    assert_eq!(
        words(&ack(&mut client, &[said(&first[0], "sent", &json!({}))])),
        ["busy"]
    );
    for (arguments, code) in [
        ("NULL, NULL, 1, '1 s'", "MI004"),
        ("'me', '{NULL}', 1, '1 s'", "MI004"),
        ("'me', NULL, 0, '1 s'", "22023"),
    ] {
        refused(
            client.query(&format!("SELECT mire.outbox_claim({arguments})"), &[]),
            code,
        );
    }
}
