//! What operators see of instances: lists, what should not be, and which level may see and do what.

use mire_tests::access::role;
use mire_tests::saga::{change, claim, commit, end, leaks, message, start, started, store, words};
use mire_tests::session::{connect, refused, value};
use postgres::Client;
use serde_json::json;

#[test]
fn lists_filter_by_saga_status_step_age_and_error() {
    let (_database, mut client) = store();
    start(
        &mut client,
        &[
            started(
                "2",
                &json!({"steps": ["b"], "error": "100% wrong", "status": "intervention"}),
            ),
            started("1", &json!({"saga": "u"})),
        ],
    );
    start(&mut client, &[started("3", &json!({}))]);
    end(&mut client, "3", 1);
    let list = |client: &mut Client, arguments: &str| -> String {
        value(
            client,
            &format!(
                "SELECT coalesce(string_agg(saga || instance, ' '), '') FROM mire.saga_list({arguments})"
            ),
        )
    };
    for (arguments, expected) in [
        ("", "t1 t2 u1"),
        ("'t'", "t1 t2"),
        ("'none'", ""),
        ("max_count => 2", "t1 t2"),
        ("'t', '{completed,failed}'", "t3"),
        ("statuses => '{intervention}'", "t2"),
        ("step => 'b'", "t2"),
        ("error => '% w'", "t2"),
        ("min_age => '1 hour'", ""),
        ("min_age => '0 s'", "t1 t2 u1"),
    ] {
        assert_eq!(list(&mut client, arguments), expected, "{arguments}");
    }
    for (arguments, code) in [
        ("statuses => '{ended}'", "22023"),
        ("max_count => 0", "22023"),
        ("min_age => '-1 s'", "22023"),
        ("statuses => '{NULL}'", "MI004"),
    ] {
        refused(
            client.query(&format!("SELECT mire.saga_list({arguments})"), &[]),
            code,
        );
    }
    let status: String = value(
        &mut client,
        "SELECT string_agg(concat_ws(' ', saga, topology_version, status, instances, due, leased), ', ' ORDER BY saga, status) FROM mire.saga_status",
    );
    assert_eq!(
        status,
        "t 1 intervention 1 1 0, t 1 running 1 0 0, u 1 running 1 1 0"
    );
}

#[test]
fn each_leak_is_found_and_health_has_none() {
    let (_database, mut client) = store();
    start(
        &mut client,
        &[started(
            "ended",
            &json!({"outbox": [message("k", "mail"), message("$", "$answer")]}),
        )],
    );
    end(&mut client, "ended", 1);
    commit(
        &mut client,
        &[change(
            "ended",
            2,
            None,
            &json!({"status": "completed", "steps": [], "facts": [], "settled": ["k"]}),
        )],
    );
    assert!(leaks(&mut client).is_empty());
    let plants = [
        (
            "UPDATE mire.sagas SET steps = '{a}' WHERE instance = 'ended'",
            "ended ended, with steps that are active",
        ),
        (
            "UPDATE mire.sagas SET lease_expires_at = now() + '1 h' WHERE instance = 'ended'",
            "ended ended, and somebody holds it",
        ),
        (
            "UPDATE mire.sagas SET due_at = now() WHERE instance = 'ended'",
            "ended ended, with a timer",
        ),
        (
            "UPDATE mire.outbox SET kind = 'mail'",
            "ended ended, with a message to send",
        ),
        (
            "UPDATE mire.outbox SET kind = 'mail', status = 'sent'",
            "ended ended, and waits for an answer",
        ),
        (
            "UPDATE mire.sagas SET steps = '{}' WHERE instance = '1'",
            "1 nothing active, nothing due, nobody holds it",
        ),
        (
            "UPDATE mire.sagas SET holder = 'me' WHERE instance = '1'",
            "1 somebody held it, and it is never due",
        ),
        (
            "UPDATE mire.sagas SET status = 'parked', due_at = now() WHERE instance = '1'",
            "1 parked, with a timer or a holder",
        ),
        (
            "DELETE FROM mire.sagas WHERE instance = 'ended'",
            "ended a message of an instance that is not there",
        ),
    ];
    for (plant, found) in plants {
        client.batch_execute("BEGIN").unwrap();
        client.batch_execute(plant).unwrap();
        assert_eq!(leaks(&mut client), [found], "{plant}");
        client.batch_execute("ROLLBACK").unwrap();
    }
    assert!(leaks(&mut client).is_empty());
}

#[test]
fn levels_reach_what_they_should() {
    let (database, _) = store();
    let session = |level: &str| connect(&database.url_as(&role(&database, level, Some(level))));
    let (mut reader, mut writer, mut admin) =
        (session("reader"), session("writer"), session("admin"));
    let reads = "SELECT (SELECT count(*) FROM mire.saga_list()) + (SELECT count(*) FROM mire.saga_load('t', '1')) + (SELECT count(*) FROM mire.saga_history('t', '1'))
                      + (SELECT count(*) FROM mire.saga_describe('t', '1')) + (SELECT count(*) FROM mire.saga_status) + (SELECT count(*) FROM mire.outbox_status)
                      + (SELECT count(*) FROM mire.saga_leaks)";
    assert!(value::<i64>(&mut reader, reads) > 5);
    refused(reader.query("SELECT mire.saga_start('{}')", &[]), "42501");
    refused(
        reader.query("SELECT mire.saga_cancel('t', '1')", &[]),
        "42501",
    );
    assert_eq!(
        words(&start(&mut writer, &[started("w", &json!({}))])),
        ["started"]
    );
    let held = claim(&mut writer, "w", 10, "1 min").0;
    assert_eq!(
        words(&commit(
            &mut writer,
            &[change("w", 1, Some(held[0].fence), &json!({}))]
        )),
        ["committed"]
    );
    writer
        .batch_execute(
            "SELECT mire.saga_cancel('t', 'w'); SELECT mire.outbox_claim('w', NULL, 1, '1 s')",
        )
        .unwrap();
    for call in [
        "saga_park('t', '1')",
        "saga_prune('1 s')",
        "saga_migrate('t', 1, 2)",
        "outbox_retry(1)",
        "saga_skip('t', '1', 'a')",
    ] {
        refused(writer.query(&format!("SELECT mire.{call}"), &[]), "42501");
    }
    for table in ["sagas", "outbox"] {
        refused(
            admin.query(&format!("SELECT FROM mire.{table}"), &[]),
            "42501",
        );
        refused(
            admin.execute(&format!("DELETE FROM mire.{table}"), &[]),
            "42501",
        );
    }
    admin
        .batch_execute("SELECT mire.saga_park('t', '1')")
        .unwrap();
    let by: String = value(
        &mut admin,
        "SELECT fact ->> 'by' FROM mire.saga_history('t', '1') ORDER BY version DESC LIMIT 1",
    );
    assert_eq!(by, format!("{}_admin", database.name));
}
