//! Answers and signals come early, late, twice and while somebody is at work: each is recorded once, in one order with the
//! commits, and the instance is looked at for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use mire_tests::saga::{
    answer, change, claim, claim_one, commit, deliver, last_fact, leaks, row, signal, start,
    start_held, started, store, words,
};
use mire_tests::session::{
    connect, pid, refused, torture_time, value, wait_until, wait_until_blocked,
};
use serde_json::{Value, json};

#[test]
fn an_answer_is_recorded_and_makes_the_instance_due() {
    let (_database, mut client) = store();
    assert!(claim(&mut client, "me", 10, "1 min").0.is_empty());
    let outcome = deliver(
        &mut client,
        &[answer(
            "1",
            &json!({"type": "paid", "data": {"n": 1}, "id": "x", "activation": 2, "request": 1}),
        )],
    );
    assert_eq!(
        (outcome[0].outcome.as_str(), outcome[0].version),
        ("delivered", Some(2))
    );
    let expected = json!({"fact": "answered", "step": "a", "activation": 2, "request": 1, "ok": true, "type": "paid", "data": {"n": 1}, "id": "x"});
    assert_eq!(last_fact(&mut client), expected);
    deliver(
        &mut client,
        &[answer(
            "1",
            &json!({"ok": false, "error": "no", "undo": true}),
        )],
    );
    let expected = json!({"fact": "answered", "step": "a", "undo": true, "request": 0, "ok": false, "data": null, "error": "no"});
    assert_eq!(last_fact(&mut client), expected);
    assert_eq!(
        words(&signal(
            &mut client,
            &[json!({"saga": "t", "instance": "1", "signal": "s", "data": 5, "id": "x"})]
        )),
        ["delivered"]
    );
    assert_eq!(
        last_fact(&mut client),
        json!({"fact": "signalled", "signal": "s", "data": 5, "id": "x"})
    );
    let kinds: String = value(
        &mut client,
        "SELECT string_agg(type, ' ' ORDER BY version) FROM mire.read_stream('$saga:t-1')",
    );
    assert_eq!(
        kinds,
        "$saga_started $saga_answered $saga_answered $saga_signalled"
    );
    assert_eq!(claim_one(&mut client, "me", "1 min").version, 4);
}

#[test]
fn the_same_id_twice_is_recorded_once_and_answered_the_same() {
    let (_database, mut client) = store();
    let item = answer("1", &json!({"id": "x"}));
    let call = json!({"saga": "t", "instance": "1", "signal": "s", "id": "x"});
    let outcomes = deliver(
        &mut client,
        &[item.clone(), item.clone(), answer("1", &json!({"id": "y"}))],
    );
    assert_eq!(words(&outcomes), ["delivered", "duplicate", "delivered"]);
    assert_eq!(outcomes[1].version, Some(2));
    assert_eq!(
        words(&signal(&mut client, &[call.clone(), call])),
        ["delivered", "duplicate"],
        "a signal's ids are its own"
    );
    let held = claim_one(&mut client, "me", "1 min");
    let end = json!({"status": "completed", "steps": []});
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 4, Some(held.fence), &end)]
        )),
        ["committed"]
    );
    assert_eq!(
        words(&deliver(&mut client, &[item])),
        ["duplicate"],
        "also when it has ended"
    );
    assert_eq!(
        row(&mut client, "1", "due_at"),
        None,
        "and nobody looks again"
    );
    let none = [
        json!({"saga": "t", "instance": "none", "step": "a"}),
        json!(3),
        answer("1", &json!({"step": 1})),
    ];
    assert_eq!(
        words(&deliver(&mut client, &none)),
        ["not_found", "invalid", "invalid"]
    );
}

#[test]
fn malformed_answers_and_signals_are_invalid() {
    let (_database, mut client) = store();
    let faults = [
        json!({"step": null}),
        json!({"step": ""}),
        json!({"ok": "yes"}),
        json!({"undo": 1}),
        json!({"activation": -1}),
        json!({"activation": "1"}),
        json!({"request": 1e10}),
        json!({"type": 1}),
        json!({"id": {}}),
        json!({"error": 1}),
        json!({"data": "x".repeat(2_000_000)}),
        json!({"more": 1}),
    ];
    let items: Vec<Value> = faults.iter().map(|fault| answer("1", fault)).collect();
    assert!(
        deliver(&mut client, &items)
            .iter()
            .all(|o| o.outcome == "invalid" && o.reason.is_some())
    );
    let items = [
        json!({"saga": "t", "instance": "1"}),
        json!({"saga": "t", "instance": "1", "signal": 1}),
        json!({"saga": "t", "instance": "1", "signal": "s", "step": "a"}),
        json!(null),
    ];
    assert_eq!(words(&signal(&mut client, &items)), ["invalid"; 4]);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        1
    );
    for function in ["saga_deliver", "saga_signal", "outbox_ack"] {
        refused(
            client.query(&format!("SELECT mire.{function}(NULL)"), &[]),
            "MI004",
        );
    }
}

/// A holder who lets go without having seen the answer is refused; the answer is not forgotten with its lease either.
#[test]
fn an_answer_that_comes_while_somebody_holds_it_is_never_lost() {
    let (_database, mut client) = store();
    let held = start_held(
        &mut client,
        &[started("2", &json!({"keep": true}))],
        "1 min",
    )[0]
    .fence;
    deliver(&mut client, &[answer("2", &json!({}))]);
    assert_eq!(
        row(&mut client, "2", "due_at <= clock_timestamp()").as_deref(),
        Some("true"),
        "due, although it is leased"
    );
    assert!(claim(&mut client, "other", 10, "1 min").0.is_empty());
    let lets_go = commit(&mut client, &[change("2", 1, held, &json!({"facts": []}))]);
    assert_eq!(
        (lets_go[0].outcome.as_str(), lets_go[0].version),
        ("conflict", Some(2))
    );
    let goes_on = commit(&mut client, &[change("2", 2, held, &json!({"keep": true}))]);
    assert_eq!(words(&goes_on), ["committed"]);
    assert_eq!(
        row(&mut client, "2", "due_at <= clock_timestamp()").as_deref(),
        Some("true"),
        "a commit that keeps leaves due_at alone"
    );
    assert_eq!(
        words(&commit(&mut client, &[change("2", 3, held, &json!({}))])),
        ["committed"]
    );
    assert_eq!(row(&mut client, "2", "due_at"), None);
}

#[test]
fn an_answer_waits_for_the_commit_before_it_and_the_commit_does_not_wait() {
    let (database, mut client) = store();
    let mut other = connect(&database.url);
    other.batch_execute("BEGIN").unwrap();
    assert_eq!(
        words(&commit(&mut other, &[change("1", 1, None, &json!({}))])),
        ["committed"]
    );
    let waiter = pid(&mut client);
    let outcomes = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| deliver(&mut client, &[answer("1", &json!({}))]));
        wait_until_blocked(&database, waiter);
        other.batch_execute("COMMIT").unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(
        (outcomes[0].outcome.as_str(), outcomes[0].version),
        ("delivered", Some(3))
    );
    assert_eq!(
        row(&mut client, "1", "due_at IS NOT NULL").as_deref(),
        Some("true")
    );
}

/// Answers, signals and heartbeats in all orders, several instances a call, against drivers that release with no due_at of
/// their own. In the end every answer must have been seen by a driver, and no call may have failed (say, in a deadlock).
#[test]
fn answers_and_commits_race_and_nothing_is_lost() {
    let (database, mut client) = store();
    let instances = 6_u64;
    let facts = json!([{"fact": "started"}, {"fact": "activated", "step": "a"}]);
    let items: Vec<Value> = (0..instances)
        .map(|n| started(&format!("r{n}"), &json!({"facts": facts, "steps": ["a"]})))
        .collect();
    start(&mut client, &items);
    let stop = AtomicBool::new(false);
    let deadline = Instant::now() + torture_time(6, 40);
    std::thread::scope(|scope| {
        for sender in 0..3_u64 {
            let (database, stop) = (&database, &stop);
            scope.spawn(move || {
                let mut client = connect(&database.url);
                let mut sent = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let several: Vec<Value> = (0..4)
                        .map(|k| {
                            answer(
                                &format!("r{}", (sent * 7 + k * (sender + 1)) % instances),
                                &json!({"id": format!("{sender}/{sent}/{k}")}),
                            )
                        })
                        .collect();
                    // Sent twice, now and then.
                    for _ in 0..=(sent % 3 / 2) {
                        assert!(
                            words(&deliver(&mut client, &several)).iter().all(|w| [
                                "delivered",
                                "duplicate"
                            ]
                            .contains(w))
                        );
                    }
                    sent += 1;
                }
            });
        }
        for driver in 0..2 {
            let database = &database;
            let stop = &stop;
            scope.spawn(move || {
                let mut client = connect(&database.url);
                let mut idle = 0;
                while idle < 40 {
                    let (claimed, _) = claim(&mut client, &format!("d{driver}"), 2, "5 s");
                    idle = if claimed.is_empty() && stop.load(Ordering::Relaxed) { idle + 1 } else { 0 };
                    for mut one in claimed {
                        let fences = format!("SELECT count(*) FROM mire.saga_renew('{{t}}', '{{{}}}', '{{{}}}', '5 s')", one.instance, one.fence);
                        value::<i64>(&mut client, &fences);
                        loop {
                            let seen = json!({"facts": [{"fact": "completed", "step": "seen", "output": one.version}]});
                            let outcome = commit(&mut client, &[change(&one.instance, one.version, Some(one.fence), &seen)]).remove(0);
                            match outcome.outcome.as_str() {
                                "committed" => break,
                                "conflict" => one.version = outcome.version.unwrap(),
                                "busy" => {}
                                other => panic!("{other}: {outcome:?}"),
                            }
                        }
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            });
        }
        while Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let unseen = "SELECT count(*) FROM mire.sagas AS s, LATERAL (SELECT e.type FROM mire.events AS e WHERE e.stream_no = s.stream_no
                    ORDER BY e.version DESC LIMIT 1) AS l WHERE s.instance ~ '^r' AND (l.type <> '$saga_advanced' OR s.due_at IS NOT NULL)";
    wait_until("all is seen", || value::<i64>(&mut client, unseen) == 0);
    let twice = "SELECT count(*) FROM (SELECT FROM mire.events WHERE type = '$saga_answered' GROUP BY stream_no, event_id HAVING count(*) > 1) AS d";
    assert_eq!(value::<i64>(&mut client, twice), 0);
    let answers: i64 = value(
        &mut client,
        "SELECT count(*) FROM mire.events WHERE type = '$saga_answered'",
    );
    println!("{answers} answers");
    assert!(answers > 50);
    assert!(leaks(&mut client).is_empty());
}

#[test]
fn data_may_be_as_deep_and_its_numbers_as_large_as_the_database_takes_them() {
    let (_database, mut client) = store();
    start(&mut client, &[started("1", &json!({}))]);
    let deep = format!("{}1e4000{}", "[".repeat(2_000), "]".repeat(2_000));
    let item = format!(r#"{{"saga": "t", "instance": "1", "step": "a", "data": {deep}}}"#);
    let sql = format!("SELECT outcome FROM mire.saga_deliver(ARRAY['{item}'::jsonb])");
    assert_eq!(value::<String>(&mut client, &sql), "delivered");
    let sql = format!(
        r#"SELECT outcome FROM mire.saga_commit(ARRAY['{{"saga": "t", "instance": "1", "version": 2, "status": "running",
             "facts": [{{"fact": "completed", "output": {deep}}}]}}'::jsonb], 'me', '1 min')"#
    );
    assert_eq!(value::<String>(&mut client, &sql), "committed");
}
