//! What operators see, who may do what, and item 10: bad input gets documented SQLSTATEs.

use mire_cluster::{Database, shared};
use mire_tests::session::{append, connect, events, refused, value};
use mire_tests::subscription::{Partition, create};
use postgres::Client;
use serde_json::json;

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let client = connect(&database.url);
    (database, client)
}

/// Partition, events behind, whether there are more.
fn lag(client: &mut Client, name: &str) -> Vec<(i32, i64, bool)> {
    client
        .query(
            "SELECT partition, events_behind, lag_is_a_minimum FROM mire.subscription_status WHERE name = $1",
            &[&name],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[test]
fn lag_is_counted_in_the_subscriptions_own_filter() {
    let (_database, mut client) = store();
    append(&mut client, "cat-1", &events(5), None).unwrap();
    append(&mut client, "dog-1", &events(3), None).unwrap();
    append(
        &mut client,
        "cat-2",
        &json!([{"type": "rare", "data": {}}]),
        None,
    )
    .unwrap();
    client
        .batch_execute(
            "SELECT mire.create_subscription('all'), mire.create_subscription('cats', '{cat}'),
                    mire.create_subscription('rare', NULL, '{rare}'), mire.create_subscription('both', '{cat,dog}', '{rare}'),
                    mire.create_subscription('parts', partitions => 2)",
        )
        .unwrap();
    for (name, behind) in [("all", 9), ("cats", 6), ("rare", 1), ("both", 1)] {
        assert_eq!(lag(&mut client, name), [(0, behind, false)], "{name}");
    }
    let parts = lag(&mut client, "parts");
    assert_eq!(parts.iter().map(|part| part.1).sum::<i64>(), 9);
    assert_eq!(parts.len(), 2);
    let behind = "SELECT time_behind > '0' AND time_behind < '1 min' FROM mire.subscription_status WHERE name = 'all'";
    assert!(value::<bool>(&mut client, behind));

    let worker = Partition::acquire(&mut client, "all", 0);
    worker.fetch(&mut client, 99).unwrap();
    worker.checkpoint(&mut client, 9).unwrap();
    assert_eq!(lag(&mut client, "all"), [(0, 0, false)]);
    let none = "SELECT time_behind IS NULL AND holder = 'worker' AND fence IS NOT NULL
                   AND lease_expires_at > now() AND checkpoint = 9
                  FROM mire.subscription_status WHERE name = 'all'";
    assert!(value::<bool>(&mut client, none));
}

#[test]
fn lag_is_counted_up_to_a_cap_and_costs_no_more() {
    let (_database, mut client) = store();
    append(&mut client, "rare-1", &events(1), None).unwrap();
    for _ in 0..4 {
        append(&mut client, "big-1", &events(10_000), None).unwrap();
    }
    append(&mut client, "rare-1", &events(1), None).unwrap();
    client
        .batch_execute(
            "ANALYZE mire.events;
             SELECT mire.create_subscription('all'), mire.create_subscription('none', NULL, '{none}'),
                    mire.create_subscription('rare', '{rare}')",
        )
        .unwrap();
    assert_eq!(lag(&mut client, "all"), [(0, 10_000, true)]);
    assert_eq!(lag(&mut client, "none"), [(0, 0, true)]);
    assert_eq!(lag(&mut client, "rare"), [(0, 2, false)]);
    // A rare category does not walk the log: few pages, though 40,000 events on 600 pages lie between its two.
    let explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)
                   SELECT mire_internal.lag_of(s, 0, 0) FROM mire.subscriptions AS s WHERE s.name = 'rare'";
    let mut pages = || {
        let plan: serde_json::Value = value(&mut client, explain);
        plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
            + plan[0]["Plan"]["Shared Read Blocks"].as_i64().unwrap()
    };
    for _ in 0..8 {
        // The other one may have read catalogs anew, which other tests of the cluster change.
        let pages = pages().min(pages());
        assert!(pages < 100, "{pages} pages");
    }
}

#[test]
fn readers_consume_and_only_admins_change_subscriptions() {
    let (database, mut client) = store();
    append(&mut client, "cat-1", &events(2), None).unwrap();
    let role = |level: &str| format!("{}_{level}", database.name);
    for level in ["reader", "writer", "admin"] {
        let role = role(level);
        client
            .batch_execute(&format!(
                "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; SELECT mire.grant_access('{role}', '{level}')"
            ))
            .unwrap();
        let mut user = connect(&database.url_as(&role));
        create(&mut user, level, 1);
        let worker = Partition::acquire(
            &mut user,
            if level == "reader" {
                "reader"
            } else {
                "writer"
            },
            0,
        );
        let page = worker.fetch(&mut user, 9).unwrap();
        worker.fails(&mut user, 2, "park").unwrap();
        worker.checkpoint(&mut user, page.next).unwrap();
        assert!(worker.parked(&mut user, 9).unwrap().is_empty());
        assert!(!lag(&mut user, level).is_empty());
        let call = format!("CALL mire.wait_for_checkpoint('{}', 2, '1 s')", worker.name);
        assert_eq!(value::<i64>(&mut user, &call), 2);
        assert_eq!(
            value::<i64>(
                &mut user,
                "SELECT count(*) FROM mire.subscription_errors WHERE position = 2 LIMIT 1"
            )
            .min(1),
            1
        );
        for change in [
            "alter_subscription('reader')",
            "pause_subscription('reader')",
            "resume_subscription('reader')",
            "retry_parked('reader', 'cat-1')",
            "reset_subscription('reader', 0)",
            "confirm_epoch('reader')",
        ] {
            let result = user.simple_query(&format!("SELECT mire.{change}"));
            if level == "admin" {
                result.unwrap_or_else(|error| panic!("{change}: {error:?}"));
            } else {
                refused(result, "42501");
            }
        }
        let dropped = user.simple_query(
            "SELECT mire.drop_subscription('writer'), mire.drop_subscription('none')",
        );
        if level == "admin" {
            dropped.unwrap();
        } else {
            refused(dropped, "42501");
        }
        for table in ["subscriptions", "checkpoints", "parked_events"] {
            refused(
                user.simple_query(&format!("SELECT FROM mire.{table}")),
                "42501",
            );
            refused(
                user.simple_query(&format!("DELETE FROM mire.{table}")),
                "42501",
            );
        }
    }
}

/// Every argument of every function, wrong in turn.
#[test]
fn bad_input_gets_documented_sqlstates() {
    let (_database, mut client) = store();
    append(&mut client, "cat-1", &events(3), None).unwrap();
    create(&mut client, "s", 2);
    let worker = Partition::acquire(&mut client, "s", 0);
    let f = worker.fence.to_string();
    let long = format!("'{}'", "x".repeat(600));
    let cases: &[(&str, &str)] = &[
        ("create_subscription(NULL)", "MI004"),
        ("create_subscription('')", "MI004"),
        ("create_subscription('$s')", "MI004"),
        ("create_subscription(E'a\\nb')", "MI004"),
        ("create_subscription(LONG)", "MI004"),
        ("create_subscription('n', ARRAY['a', NULL])", "MI004"),
        ("create_subscription('n', NULL, '{{a},{b}}')", "MI004"),
        (
            "create_subscription('n', array_fill('x'::text, '{1001}') || '{y}'::text[])",
            "MI004",
        ),
        ("create_subscription('n', start => -1)", "22023"),
        (
            "create_subscription('n', start => 9223372036854775807)",
            "22023",
        ),
        ("create_subscription('n', partitions => 0)", "22023"),
        ("create_subscription('n', partitions => -1)", "22023"),
        ("create_subscription('n', partitions => 1025)", "22023"),
        ("create_subscription('n', partitions => NULL)", "22023"),
        ("acquire_subscription(NULL, 0, 'me', '1 s')", "42704"),
        ("acquire_subscription('none', 0, 'me', '1 s')", "42704"),
        ("acquire_subscription('s', -1, 'me', '1 s')", "22023"),
        ("acquire_subscription('s', 2, 'me', '1 s')", "22023"),
        ("acquire_subscription('s', NULL, 'me', '1 s')", "22023"),
        (
            "acquire_subscription('s', 2147483647, 'me', '1 s')",
            "22023",
        ),
        ("acquire_subscription('s', 1, NULL, '1 s')", "MI004"),
        ("acquire_subscription('s', 1, '', '1 s')", "MI004"),
        ("acquire_subscription('s', 1, LONG, '1 s')", "MI004"),
        ("acquire_subscription('s', 1, 'me', NULL)", "22023"),
        ("acquire_subscription('s', 1, 'me', '0')", "22023"),
        ("acquire_subscription('s', 1, 'me', '-1 s')", "22023"),
        ("acquire_subscription('s', 1, 'me', '2 days')", "22023"),
        (
            "acquire_subscription('s', 1, 'me', '178000000 years')",
            "22023",
        ),
        ("fetch_events('none', 0, FENCE)", "42704"),
        ("fetch_events(NULL, 0, FENCE)", "42704"),
        ("fetch_events('s', 2, FENCE)", "MI003"),
        ("fetch_events('s', 2, NULL)", "22023"),
        ("fetch_events('s', 1024, FENCE)", "22023"),
        ("fetch_events('s', NULL, FENCE)", "22023"),
        ("fetch_events('s', 1, FENCE)", "MI003"),
        ("fetch_events('s', 0, NULL)", "MI003"),
        ("fetch_events('s', 0, 0)", "MI003"),
        ("fetch_events('s', 0, -9223372036854775808)", "MI003"),
        ("fetch_events('s', 0, FENCE, 0)", "22023"),
        ("fetch_events('s', 0, FENCE, NULL)", "22023"),
        ("fetch_events('s', 0, FENCE, 9, -1)", "22023"),
        (
            "fetch_events('s', 0, FENCE, 9, 9223372036854775807)",
            "22023",
        ),
        ("checkpoint('none', 0, FENCE, 0)", "42704"),
        ("checkpoint('s', 0, NULL, 0)", "MI003"),
        ("checkpoint('s', 1, FENCE, 0)", "MI003"),
        ("checkpoint('s', -1, FENCE, 0)", "22023"),
        ("checkpoint('s', 0, FENCE, NULL)", "22023"),
        ("checkpoint('s', 0, FENCE, -1)", "22023"),
        ("checkpoint('s', 0, FENCE, 9223372036854775807)", "22023"),
        ("release_subscription('none', 0, FENCE)", "42704"),
        ("release_subscription('s', 1024, FENCE)", "22023"),
        ("assert_subscription('none', 0, FENCE)", "42704"),
        ("assert_subscription('s', 0, 77)", "MI003"),
        ("assert_subscription('s', 9, 1)", "MI003"),
        ("assert_subscription('s', NULL, 1)", "22023"),
        (
            "report_failure('none', 0, FENCE, 1, 'e', 1, 'note')",
            "42704",
        ),
        ("report_failure('s', 0, 77, 1, 'e', 1, 'note')", "MI003"),
        ("report_failure('s', 0, FENCE, 0, 'e', 1, 'note')", "22023"),
        (
            "report_failure('s', 0, FENCE, NULL, 'e', 1, 'note')",
            "22023",
        ),
        (
            "report_failure('s', 0, FENCE, 9223372036854775807, 'e', 1, 'park')",
            "22023",
        ),
        ("report_failure('s', 0, FENCE, 1, NULL, 1, 'note')", "MI004"),
        ("report_failure('s', 0, FENCE, 1, 'e', 0, 'note')", "22023"),
        (
            "report_failure('s', 0, FENCE, 1, 'e', NULL, 'note')",
            "22023",
        ),
        ("report_failure('s', 0, FENCE, 1, 'e', 1, NULL)", "22023"),
        (
            "report_failure('s', 0, FENCE, 1, 'e', 1, 'explode')",
            "22023",
        ),
        ("fetch_parked('none', 0, FENCE)", "42704"),
        ("fetch_parked('s', 0, 77)", "MI003"),
        ("fetch_parked('s', 0, FENCE, 0)", "22023"),
        ("checkpoint_parked('s', 0, FENCE, 'none', 1)", "42704"),
        ("checkpoint_parked('s', 0, FENCE, NULL, 1)", "42704"),
        ("checkpoint_parked('s', 0, FENCE, 'cat-1', 1)", "42704"),
        ("retry_parked('none', 'cat-1')", "42704"),
        ("retry_parked('s', NULL)", "42704"),
        ("skip_parked('s', 'cat-1')", "42704"),
        ("alter_subscription('none')", "42704"),
        ("alter_subscription(NULL)", "42704"),
        ("alter_subscription('s', partitions => 0)", "22023"),
        ("alter_subscription('s', partitions => NULL)", "22023"),
        (
            "alter_subscription('s', ARRAY[NULL]::text[], NULL, 2)",
            "MI004",
        ),
        ("reset_subscription('none', 0)", "42704"),
        ("reset_subscription('s', -1)", "22023"),
        ("reset_subscription('s', NULL)", "22023"),
        ("reset_subscription('s', 4)", "22023"),
        ("pause_subscription('none')", "42704"),
        ("resume_subscription(NULL)", "42704"),
        ("subscription_checkpoint('none')", "42704"),
        ("subscription_checkpoint(NULL, NULL)", "42704"),
        ("attend_subscriptions('{s}', NULL, '1 s')", "MI004"),
        ("attend_subscriptions('{s}', 'w', '2 days')", "22023"),
        (
            "attend_subscriptions('{s}', 'w', '1 s', '{a,b}', '{1}')",
            "22023",
        ),
        ("leave_subscriptions('{s}', 'w', '{a}', NULL)", "22023"),
    ];
    let state = "SELECT concat_ws(' ', (SELECT string_agg(s::text, ' ') FROM mire.subscriptions AS s),
                        (SELECT string_agg(c::text, ' ' ORDER BY partition) FROM mire.checkpoints AS c),
                        (SELECT string_agg(l::text, ' ' ORDER BY l.resource) FROM mire.leases AS l),
                        (SELECT count(*) FROM mire.parked_events))";
    let before: String = value(&mut client, state);
    for (call, code) in cases {
        let call = call.replace("FENCE", &f).replace("LONG", &long);
        let result = client.simple_query(&format!("SELECT * FROM mire.{call}"));
        let code_got = result
            .as_ref()
            .err()
            .and_then(|e| e.code().map(|c| c.code().to_owned()));
        assert_eq!(code_got.as_deref(), Some(*code), "{call}");
    }
    assert_eq!(
        value::<String>(&mut client, state),
        before,
        "what was refused has changed nothing"
    );
    assert!(!value::<bool>(
        &mut client,
        "SELECT mire.drop_subscription(NULL)"
    ));
    assert!(!value::<bool>(
        &mut client,
        "SELECT mire.release_subscription('s', 0, NULL)"
    ));

    // Attempts that do not fit together any more stay at the most there can be.
    worker.fetch(&mut client, 9).unwrap();
    let number: i64 = value(&mut client, "SELECT stream_no % 2 FROM mire.stream_heads");
    let worker = Partition::acquire(&mut client, "s", i32::try_from(number).unwrap());
    worker.fetch(&mut client, 9).unwrap();
    for _ in 0..2 {
        let call = format!(
            "SELECT mire.report_failure('s', {number}, {}, 1, 'e', 2147483647, 'park'), mire.retry_parked('s', 'cat-1')",
            worker.fence
        );
        client.simple_query(&call).unwrap();
    }
    assert_eq!(
        value::<i32>(&mut client, "SELECT attempts FROM mire.subscription_errors"),
        2_147_483_647
    );
}

#[test]
fn the_feed_is_refused_to_workers_where_it_is_unsafe() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut open = client.transaction().unwrap();
        open.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {level}"))
            .unwrap();
        refused(worker.fetch(&mut open, 9), "MI007");
    }
    let mut open = client.transaction().unwrap();
    open.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        .unwrap();
    refused(
        open.simple_query("SELECT mire.create_subscription('n', start => NULL)"),
        "MI007",
    );
}
