//! Instances that would have been forgotten, stuck, or in everybody's way.

use mire_cluster::shared;
use mire_tests::saga::{
    ack, answer, change, claim, commit, deliver, message, row, start, started, words,
};
use mire_tests::session::{connect, value};
use serde_json::{Value, json};

#[test]
fn an_ended_instance_that_cannot_be_driven_for_a_late_answer_is_tried_again() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    start(&mut client, &[started("1", &json!({}))]);
    let ended = json!({"status": "compensated", "steps": [], "facts": [{"fact": "ended", "outcome": "compensated"}]});
    assert_eq!(
        words(&commit(&mut client, &[change("1", 1, None, &ended)])),
        ["committed"]
    );
    deliver(&mut client, &[answer("1", &json!({"id": "late"}))]);
    let (claimed, _) = claim(&mut client, "me", 1, "1 min");
    let failed = json!({
        "status": "compensated", "facts": [], "failed": true, "due_in_ms": 1, "error": "no luck"
    });
    let outcomes = commit(
        &mut client,
        &[change(
            "1",
            claimed[0].version,
            Some(claimed[0].fence),
            &failed,
        )],
    );
    assert_eq!(words(&outcomes), ["committed"]);
    assert_eq!(
        row(&mut client, "1", "due_at IS NOT NULL").as_deref(),
        Some("true"),
        "somebody looks again"
    );
}

#[test]
fn any_number_of_messages_that_could_be_sent_can_be_taken_back() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    start(&mut client, &[started("1", &json!({}))]);
    let keys: Vec<String> = (0..12_000).map(|n| format!("1/{n}")).collect();
    let outbox: Vec<Value> = keys.iter().map(|key| message(key, "mail")).collect();
    let sent = json!({"facts": [], "outbox": outbox});
    let back = json!({"facts": [], "withdraw": keys});
    for item in [sent, back] {
        let outcomes = commit(&mut client, &[change("1", 1, None, &item)]);
        assert_eq!(words(&outcomes), ["committed"], "{outcomes:?}");
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.outbox"),
        0
    );
}

#[test]
fn a_message_that_is_handed_back_untried_has_all_its_attempts_left() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let two = [message("1/a", "mail"), message("1/b", "mail")];
    start(&mut client, &[started("1", &json!({"outbox": two}))]);
    for _ in 0..3 {
        let query = "SELECT message_no, fence, key FROM mire.outbox_claim('me', NULL, 9, '1 min') WHERE message_no IS NOT NULL";
        let rows = client.query(query, &[]).unwrap();
        let back = rows.iter().map(|row| {
            let (no, fence, key): (i64, i64, String) = (row.get(0), row.get(1), row.get(2));
            let mut item =
                json!({"message_no": no, "fence": fence, "outcome": "retry", "delay_ms": 0});
            if key == "1/a" {
                item["error"] = json!("503");
            }
            item
        });
        let back: Vec<Value> = back.collect();
        assert_eq!(words(&ack(&mut client, &back)), ["retried", "retried"]);
    }
    let attempts = "SELECT string_agg(attempts::text, ' ' ORDER BY key) FROM mire.outbox";
    assert_eq!(value::<String>(&mut client, attempts), "3 0");
}

#[test]
fn a_history_too_large_to_be_read_keeps_nobody_from_claiming_others() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    start(
        &mut client,
        &[started("huge", &json!({})), started("small", &json!({}))],
    );
    let signals = "DO $$ BEGIN FOR i IN 1..270 LOOP PERFORM mire.saga_signal(ARRAY[
      jsonb_build_object('saga', 't', 'instance', 'huge', 'signal', 's', 'data', repeat('x', 1000000))]); END LOOP; END $$";
    client.batch_execute(signals).unwrap();
    let (mut claimed, _) = claim(&mut client, "me", 9, "1 min");
    claimed.sort_by(|a, b| a.instance.cmp(&b.instance));
    assert_eq!(claimed.len(), 2);
    let why = claimed[0].events.as_str().unwrap();
    assert!(why.contains("too large"), "{why}");
    assert_eq!(claimed[0].version, 271);
    assert_eq!(claimed[1].events[0]["version"], 1);
}
