//! Item 7 and section 1: what `append` does inside other people's transactions: isolation levels, read-only
//! transactions, savepoints, functions with exception blocks, cancellation.

use std::thread;
use std::time::{Duration, Instant};

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, pid, refused, value, wait_until_blocked};
use postgres::{IsolationLevel, NoTls};
use serde_json::json;

const STRICT: [IsolationLevel; 2] = [IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

#[test]
fn a_strict_transaction_appends_and_serialises_where_postgres_would() {
    let database = shared().fresh_database().unwrap();
    let (mut one, mut other) = (connect(&database.url), connect(&database.url));
    for (number, level) in STRICT.into_iter().enumerate() {
        let stream = format!("strict-{number}");
        append(&mut one, &stream, &events(1), Some(0)).unwrap();
        let fresh = format!("fresh-{number}");

        let mut strict = one
            .build_transaction()
            .isolation_level(level)
            .start()
            .unwrap();
        assert_eq!(
            append(&mut strict, &stream, &events(1), Some(1))
                .unwrap()
                .version,
            2
        );
        assert_eq!(
            append(&mut strict, &fresh, &events(2), Some(0))
                .unwrap()
                .version,
            2
        );
        strict.commit().unwrap();

        // The stream moves on after the snapshot: neither a lost update nor a conflict that could be decided upon.
        for (expected, call) in [
            (Some(2), events(1)),
            (None, events(1)),
            (Some(2), json!([])),
        ] {
            let version: i64 = value(
                &mut other,
                &format!("SELECT mire.stream_version('{stream}')"),
            );
            let mut strict = one
                .build_transaction()
                .isolation_level(level)
                .start()
                .unwrap();
            value::<i64>(&mut strict, "SELECT count(*) FROM mire.streams");
            append(&mut other, &stream, &events(1), Some(version)).unwrap();
            refused(append(&mut strict, &stream, &call, expected), "40001");
            strict.rollback().unwrap();
        }

        // The same for a stream that was created after the snapshot; and no endless loop about it.
        let late = format!("late-{number}");
        let mut strict = one
            .build_transaction()
            .isolation_level(level)
            .start()
            .unwrap();
        value::<i64>(&mut strict, "SELECT count(*) FROM mire.streams");
        append(&mut other, &late, &events(1), Some(0)).unwrap();
        refused(append(&mut strict, &late, &events(1), Some(0)), "40001");
        strict.rollback().unwrap();
    }
}

#[test]
fn a_wait_for_a_stream_can_be_cancelled() {
    let database = shared().fresh_database().unwrap();
    let mut holder = connect(&database.url);
    append(&mut holder, "held-1", &events(1), Some(0)).unwrap();
    // An existing stream, and one that is only being created.
    for (stream, expected) in [("held-1", Some(1)), ("held-2", Some(0))] {
        for level in [
            IsolationLevel::ReadCommitted,
            IsolationLevel::RepeatableRead,
        ] {
            let mut holding = holder.transaction().unwrap();
            append(&mut holding, stream, &events(1), expected).unwrap();

            let mut waiter = connect(&database.url);
            let (waiting, cancel) = (pid(&mut waiter), waiter.cancel_token());
            let waiting_append = thread::spawn(move || {
                let mut strict = waiter
                    .build_transaction()
                    .isolation_level(level)
                    .start()
                    .unwrap();
                append(&mut strict, stream, &events(1), None).map(drop)
            });
            wait_until_blocked(&database, waiting);
            let start = Instant::now();
            cancel.cancel_query(NoTls).unwrap();
            refused(waiting_append.join().unwrap(), "57014");
            assert!(start.elapsed() < Duration::from_secs(5));
            holding.rollback().unwrap();
        }
    }
}

#[test]
fn a_creator_whose_rival_rolls_back_takes_over() {
    let database = shared().fresh_database().unwrap();
    let (mut one, mut other) = (connect(&database.url), connect(&database.url));
    let mut rival = one.transaction().unwrap();
    append(&mut rival, "s-1", &events(3), Some(0)).unwrap();
    let waiting = pid(&mut other);
    let waiting_append = thread::spawn(move || append(&mut other, "s-1", &events(1), Some(0)));
    wait_until_blocked(&database, waiting);
    rival.rollback().unwrap();
    assert_eq!(waiting_append.join().unwrap().unwrap().version, 1);
}

#[test]
fn a_read_only_transaction_refuses_every_kind_of_append() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
    for call in [
        "SELECT mire.append('s-1', '[{\"type\": \"t\", \"data\": 1}]')",
        "SELECT mire.append('s-2', '[{\"type\": \"t\", \"data\": 1}]', 0)",
        "SELECT mire.append('s-1', '[]', 1)",
        "SELECT mire.append_events('s-1', ARRAY['t'], ARRAY['1']::jsonb[])",
        "SELECT mire.append_batch('{s-1}', '{1}', '{1}', '{t}', '{1}')",
        "SELECT mire.append_batch('{s-2}', '{0}', '{1}', '{t}', '{1}')",
    ] {
        let mut reading = client.build_transaction().read_only(true).start().unwrap();
        refused(reading.query(call, &[]), "25006");
        reading.rollback().unwrap();
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
        1
    );
}

#[test]
fn a_savepoint_takes_its_appends_back_and_leaves_no_gap_in_versions() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let mut outer = client.transaction().unwrap();
    append(&mut outer, "s-1", &events(2), Some(0)).unwrap();
    let mut inner = outer.transaction().unwrap();
    append(&mut inner, "s-1", &events(5), Some(2)).unwrap();
    append(&mut inner, "s-2", &events(1), Some(0)).unwrap();
    inner.rollback().unwrap();
    let mut inner = outer.transaction().unwrap();
    refused(append(&mut inner, "s-1", &events(1), Some(7)), "MI001");
    inner.rollback().unwrap();
    let mut inner = outer.transaction().unwrap();
    assert_eq!(
        append(&mut inner, "s-1", &events(1), Some(2))
            .unwrap()
            .version,
        3
    );
    inner.commit().unwrap();
    assert_eq!(
        append(&mut outer, "s-1", &events(1), Some(3))
            .unwrap()
            .version,
        4
    );
    outer.commit().unwrap();

    let seen =
        "SELECT array_agg(version ORDER BY position) FROM mire.read_all() WHERE stream = 's-1'";
    assert_eq!(value::<Vec<i64>>(&mut client, seen), [1, 2, 3, 4]);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('s-2')"),
        0
    );
}

#[test]
fn functions_append_and_catch_conflicts_without_losing_what_went_before() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute(
            r#"
            CREATE FUNCTION transfer(OUT conflicts int) LANGUAGE plpgsql AS $$
            BEGIN
              conflicts := 0;
              FOR i IN 1..20 LOOP
                BEGIN
                  PERFORM mire.append('from-1', '[{"type": "sent", "data": 1}]', i - 1);
                  -- Every third expectation is wrong: the block takes both appends back.
                  PERFORM mire.append('to-1', '[{"type": "got", "data": 1}]',
                                      CASE WHEN i % 3 = 0 THEN 1000 ELSE -1 END);
                EXCEPTION WHEN SQLSTATE 'MI001' OR SQLSTATE 'MI002' THEN
                  conflicts := conflicts + 1;
                  PERFORM mire.append(s, '[{"type": "sorry", "data": 1}]') FROM unnest('{from-1,to-1}'::text[]) AS s;
                END;
              END LOOP;
            END $$;
            "#,
        )
        .unwrap();
    assert_eq!(value::<i32>(&mut client, "SELECT transfer()"), 7);
    for stream in ["from-1", "to-1"] {
        let seen = format!(
            "SELECT array_agg(version ORDER BY position) FROM mire.read_stream('{stream}')"
        );
        assert_eq!(
            value::<Vec<i64>>(&mut client, &seen),
            (1..=20).collect::<Vec<_>>()
        );
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(position) FROM mire.read_all()"),
        40
    );
}
