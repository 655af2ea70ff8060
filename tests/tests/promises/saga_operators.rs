//! What operators do to instances is recorded in their history, with who did it, and refused where it makes no sense.

use mire_tests::saga::{
    answer, change, claim, claim_one, commit, deliver, end, last_fact, leaks, message, row, signal,
    start, start_held, started, store, words,
};
use mire_tests::session::{connect, refused, value};
use postgres::Client;
use serde_json::{Value, json};

fn operate(client: &mut Client, call: &str) {
    client
        .batch_execute(&format!("SELECT mire.{call}"))
        .unwrap();
}

#[test]
fn every_intervention_is_in_the_history_with_who_and_makes_the_instance_due() {
    let (_database, mut client) = store();
    for (version, (call, fact)) in [
        (
            "saga_retry('t', '1', 'a')",
            json!({"fact": "retry_requested", "step": "a"}),
        ),
        (
            "saga_retry('t', '1')",
            json!({"fact": "retry_requested", "step": null}),
        ),
        (
            "saga_skip('t', '1', 'a')",
            json!({"fact": "skip_requested", "step": "a"}),
        ),
        (
            "saga_compensate('t', '1', 'why not')",
            json!({"fact": "compensation_requested", "reason": "why not"}),
        ),
        (
            "saga_cancel('t', '1')",
            json!({"fact": "cancel_requested", "reason": ""}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        operate(&mut client, call);
        let mut expected = fact;
        expected["by"] = json!("postgres");
        assert_eq!(last_fact(&mut client), expected);
        let claimed = claim_one(&mut client, "me", "1 min");
        assert_eq!(claimed.version, i64::try_from(version).unwrap() + 2);
        commit(
            &mut client,
            &[change(
                "1",
                claimed.version,
                Some(claimed.fence),
                &json!({"facts": []}),
            )],
        );
    }
    let kinds: String = value(
        &mut client,
        "SELECT string_agg(DISTINCT type, ' ') FROM mire.read_stream('$saga:t-1', 1)",
    );
    assert_eq!(kinds, "$saga_operated");
}

#[test]
fn a_parked_instance_keeps_what_comes_and_is_driven_on_when_it_is_resumed() {
    let (_database, mut client) = store();
    deliver(&mut client, &[answer("1", &json!({}))]);
    let held = claim_one(&mut client, "me", "1 min");
    operate(&mut client, "saga_park('t', '1', 'looks wrong')");
    assert_eq!(
        last_fact(&mut client),
        json!({"fact": "parked", "reason": "looks wrong", "by": "postgres"})
    );
    let refused_commit = commit(&mut client, &[change("1", 3, Some(held.fence), &json!({}))]);
    assert_eq!(
        words(&refused_commit),
        ["lease_lost"],
        "its holder cannot commit any more"
    );
    assert_eq!(
        words(&deliver(
            &mut client,
            &[answer("1", &json!({"data": "kept"}))]
        )),
        ["delivered"]
    );
    signal(
        &mut client,
        &[json!({"saga": "t", "instance": "1", "signal": "s"})],
    );
    operate(&mut client, "saga_cancel('t', '1', 'later')");
    let (none, wait) = claim(&mut client, "me", 10, "1 min");
    assert!(none.is_empty() && wait.is_none());
    assert_eq!(
        row(&mut client, "1", "concat_ws(' ', status, error, due_at)").unwrap(),
        "parked looks wrong"
    );
    assert!(leaks(&mut client).is_empty());
    operate(&mut client, "saga_resume('t', '1')");
    assert_eq!(
        last_fact(&mut client),
        json!({"fact": "resumed", "by": "postgres"})
    );
    let again = claim_one(&mut client, "me", "1 min");
    assert_eq!((again.version, again.attempts), (7, 0));
    assert_eq!(
        row(&mut client, "1", "concat_ws(' ', status, error)").unwrap(),
        "running"
    );
    // One that had turned back is turning back again.
    let turns = json!({"status": "compensating", "facts": [{"fact": "compensation_started", "cause": {"why": "cancelled", "reason": "later"}}]});
    commit(&mut client, &[change("1", 7, Some(again.fence), &turns)]);
    operate(&mut client, "saga_park('t', '1')");
    operate(&mut client, "saga_resume('t', '1')");
    assert_eq!(
        row(&mut client, "1", "status").as_deref(),
        Some("compensating")
    );
}

#[test]
fn mi008_and_mi009_tell_what_is_the_matter() {
    let (_database, mut client) = store();
    for call in [
        "saga_cancel('t', 'x')",
        "saga_compensate('t', 'x')",
        "saga_retry('t', 'x')",
        "saga_skip('t', 'x', 'a')",
        "saga_park(NULL, NULL)",
        "saga_resume('t', 'x')",
        "saga_describe('t', 'x')",
    ] {
        let said = refused(
            client.batch_execute(&format!("SELECT mire.{call}")),
            "MI008",
        );
        let detail: Value = serde_json::from_str(said.detail().unwrap()).unwrap();
        assert!(
            detail.get("saga").is_some()
                && detail.get("instance").is_some()
                && detail.get("message_no").is_some()
        );
        assert!(said.hint().is_some());
    }
    let said = refused(
        client.batch_execute("SELECT mire.saga_resume('t', '1')"),
        "MI009",
    );
    let detail: Value = serde_json::from_str(said.detail().unwrap()).unwrap();
    assert_eq!(
        detail,
        json!({"saga": "t", "instance": "1", "status": "running", "action": "resumed"})
    );
    operate(&mut client, "saga_park('t', '1')");
    refused(
        client.batch_execute("SELECT mire.saga_park('t', '1')"),
        "MI009",
    );
    operate(&mut client, "saga_resume('t', '1')");
    end(&mut client, "1", 3);
    for call in [
        "saga_cancel('t', '1')",
        "saga_retry('t', '1')",
        "saga_skip('t', '1', 'a')",
        "saga_park('t', '1')",
    ] {
        refused(
            client.batch_execute(&format!("SELECT mire.{call}")),
            "MI009",
        );
    }
    refused(
        client.batch_execute("SELECT mire.saga_skip('t', '1', NULL)"),
        "MI004",
    );
    refused(
        client.batch_execute("SELECT mire.saga_retry('t', '1', '')"),
        "MI004",
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        4
    );
    // One that has completed can still be undone.
    operate(&mut client, "saga_compensate('t', '1', 'refund')");
    assert!(leaks(&mut client).is_empty());
    assert_eq!(claim_one(&mut client, "me", "1 min").version, 5);
}

#[test]
fn instances_are_moved_to_another_topology_version_deliberately() {
    let (_database, mut client) = store();
    let held = start_held(
        &mut client,
        &[started("2", &json!({"keep": true}))],
        "1 min",
    )[0]
    .fence;
    start(
        &mut client,
        &[
            started("3", &json!({})),
            started("ended", &json!({})),
            started("other", &json!({"saga": "u"})),
        ],
    );
    end(&mut client, "ended", 1);
    operate(&mut client, "saga_park('t', '3')");
    let migrate = |client: &mut Client, arguments: &str| -> i64 {
        value(client, &format!("SELECT mire.saga_migrate({arguments})"))
    };
    assert_eq!(migrate(&mut client, "'t', 1, 2, '{1,none}'"), 1);
    assert_eq!(
        last_fact(&mut client),
        json!({"fact": "migrated", "from": 1, "to": 2, "by": "postgres"})
    );
    assert_eq!(migrate(&mut client, "'t', 1, 2"), 2);
    assert_eq!(
        words(&commit(&mut client, &[change("2", 1, held, &json!({}))])),
        ["lease_lost"],
        "its holder knows the old one"
    );
    let versions: String = value(
        &mut client,
        "SELECT string_agg(concat_ws(' ', instance, topology_version, due_at <= clock_timestamp()), ', ' ORDER BY instance COLLATE \"C\") FROM mire.sagas",
    );
    assert_eq!(versions, "1 2 t, 2 2 t, 3 2, ended 1, other 1 t");
    assert_eq!(migrate(&mut client, "'t', 1, 2, '{ended}'"), 1);
    for arguments in ["'t', 1, 1", "'t', -1, 2", "'t', 1, NULL"] {
        refused(
            client.batch_execute(&format!("SELECT mire.saga_migrate({arguments})")),
            "22023",
        );
    }
}

#[test]
fn pruning_passes_over_what_somebody_has_locked() {
    let (database, mut client) = store();
    for name in ["free", "locked"] {
        start(&mut client, &[started(name, &json!({}))]);
        end(&mut client, name, 1);
    }
    let mut session = connect(&database.url);
    let mut holder = session.transaction().unwrap();
    let lock = "SELECT FROM mire.sagas WHERE instance = 'locked' FOR NO KEY UPDATE";
    holder.execute(lock, &[]).unwrap();
    client.batch_execute("SET lock_timeout = '1 s'").unwrap();
    let prune = "SELECT mire.saga_prune('0 s')";
    assert_eq!(value::<i64>(&mut client, prune), 1);
    holder.rollback().unwrap();
    assert_eq!(value::<i64>(&mut client, prune), 1);
}

#[test]
fn pruning_erases_what_ended_and_never_forgets_a_name() {
    let (_database, mut client) = store();
    let names = ["old", "late", "sends", "waits", "dead"];
    let with_message = |name: &str| json!({"outbox": [message(&format!("{name}/k"), "mail")]});
    for name in names {
        start(
            &mut client,
            &[started(
                name,
                &if ["sends", "waits", "dead"].contains(&name) {
                    with_message(name)
                } else {
                    json!({})
                },
            )],
        );
        end(&mut client, name, 1);
    }
    client
        .batch_execute("UPDATE mire.outbox SET status = 'sent' WHERE instance = 'waits'; UPDATE mire.outbox SET status = 'dead' WHERE instance = 'dead'")
        .unwrap();
    deliver(&mut client, &[answer("late", &json!({}))]);
    let prune = |client: &mut Client, age: &str| -> i64 {
        value(client, &format!("SELECT mire.saga_prune('{age}')"))
    };
    assert_eq!(prune(&mut client, "1 hour"), 0, "nothing is that old");
    assert_eq!(prune(&mut client, "0 s"), 2, "nothing that is pending");
    let pruned: String = value(
        &mut client,
        "SELECT string_agg(instance, ' ' ORDER BY instance) FROM mire.sagas WHERE pruned",
    );
    assert_eq!(pruned, "dead old");
    assert_eq!(prune(&mut client, "0 s"), 0);
    let left: String = value(
        &mut client,
        "SELECT string_agg(type || ' ' || version, ',') FROM mire.read_stream('$saga:t-old')",
    );
    assert_eq!(left, "$stream_truncated 3");
    assert_eq!(
        value::<i64>(
            &mut client,
            "SELECT count(*) FROM mire.outbox WHERE instance = 'dead'"
        ),
        0
    );

    assert_eq!(
        words(&start(&mut client, &[started("old", &json!({}))])),
        ["exists"]
    );
    assert_eq!(
        words(&deliver(&mut client, &[answer("old", &json!({}))])),
        ["pruned"]
    );
    assert_eq!(
        words(&signal(
            &mut client,
            &[json!({"saga": "t", "instance": "old", "signal": "s"})]
        )),
        ["pruned"]
    );
    assert_eq!(
        words(&commit(&mut client, &[change("old", 3, None, &json!({}))])),
        ["pruned"]
    );
    for call in ["saga_cancel('t', 'old')", "saga_resume('t', 'old')"] {
        refused(
            client.batch_execute(&format!("SELECT mire.{call}")),
            "MI009",
        );
    }
    let loaded = client
        .query_one("SELECT events IS NULL FROM mire.saga_load('t', 'old')", &[])
        .unwrap();
    assert!(loaded.get::<_, bool>(0));
    assert!(
        client
            .query("SELECT FROM mire.saga_history('t', 'old')", &[])
            .unwrap()
            .is_empty()
    );
    let header: String = value(
        &mut client,
        "SELECT * FROM mire.saga_describe('t', 'old') LIMIT 1",
    );
    assert_eq!(
        header,
        "t old (topology version 1) is completed; its history was pruned."
    );
    refused(
        client.batch_execute("SELECT mire.saga_prune('-1 s')"),
        "22023",
    );
    refused(
        client.batch_execute("SELECT mire.saga_prune('1 s', 0)"),
        "22023",
    );
    refused(
        client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT mire.saga_prune('1 s')"),
        "0A000",
    );
}
