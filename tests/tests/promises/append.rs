//! Item 7, the SQL side of `append` and `append_events`: every mode of the expected version, appends of no events, what
//! the server makes up when ids and metadata are missing, and the order of positions.

use std::sync::Barrier;
use std::thread;

use mire_cluster::shared;
use mire_tests::session::{
    Appended, append, connect, events, pid, refused, value, wait_until_blocked,
};
use postgres::Client;
use postgres::error::Error;
use serde_json::{Value, json};
use uuid::Uuid;

const NONE: Option<i64> = None;

type Call = fn(&mut Client, &str, Option<i64>) -> Result<Appended, Error>;

/// One event through `append_events`, the entry of the drivers.
fn append_one(client: &mut Client, stream: &str, expected: Option<i64>) -> Result<Appended, Error> {
    client
        .query_one(
            "SELECT * FROM mire.append_events($1, ARRAY['happened'], ARRAY['{}']::jsonb[], NULL, NULL, $2)",
            &[&stream, &expected],
        )
        .map(Appended::from)
}

#[test]
fn each_mode_of_the_expected_version_accepts_and_refuses_what_it_says() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let entries: [(&str, Call); 2] = [
        ("append", |client, stream, expected| {
            append(client, stream, &events(1), expected)
        }),
        ("append_events", append_one),
    ];
    for (entry, call) in entries {
        // (events that are there, what is expected, the version after it or the SQLSTATE)
        let cases: [(usize, Option<i64>, Result<i64, &str>); 18] = [
            (0, None, Ok(1)),
            (0, Some(0), Ok(1)),
            (0, Some(-1), Err("MI002")),
            (0, Some(1), Err("MI001")),
            (0, Some(i64::MAX), Err("MI001")),
            (0, Some(-2), Err("22023")),
            (1, None, Ok(2)),
            (1, Some(1), Ok(2)),
            (1, Some(-1), Ok(2)),
            (1, Some(0), Err("MI001")),
            (1, Some(2), Err("MI001")),
            (1, Some(i64::MIN), Err("22023")),
            (3, None, Ok(4)),
            (3, Some(3), Ok(4)),
            (3, Some(-1), Ok(4)),
            (3, Some(2), Err("MI001")),
            (3, Some(4), Err("MI001")),
            (3, Some(i64::MAX), Err("MI001")),
        ];
        for (number, (there, expected, outcome)) in cases.into_iter().enumerate() {
            let stream = format!("{entry}-{number}");
            if there > 0 {
                append(&mut client, &stream, &events(there), Some(0)).unwrap();
            }
            let result = call(&mut client, &stream, expected);
            let version = match outcome {
                Ok(version) => {
                    let appended = result.unwrap();
                    assert_eq!((appended.version, appended.duplicate), (version, false));
                    version
                }
                Err(sqlstate) => {
                    refused(result, sqlstate);
                    i64::try_from(there).unwrap()
                }
            };
            let kept: (i64, i64) = {
                let row = client
                    .query_one(
                        "SELECT mire.stream_version($1), (SELECT count(*) FROM mire.read_stream($1))",
                        &[&stream],
                    )
                    .unwrap();
                (row.get(0), row.get(1))
            };
            assert_eq!(kept, (version, version), "{stream}, expected {expected:?}");
        }
    }
}

#[test]
fn an_append_lands_whole_or_not_at_all() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "a-1", &events(3), Some(0)).unwrap();
    let bad = json!([{"type": "fine", "data": 1}, {"type": "", "data": 2}]);
    let said = refused(append(&mut client, "a-1", &bad, Some(3)), "MI004");
    let detail: Value = serde_json::from_str(said.detail().unwrap()).unwrap();
    assert_eq!(detail["item"], 2);
    refused(append(&mut client, "a-2", &bad, None), "MI004");
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
        3
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.stream_heads"),
        1
    );
}

#[test]
fn an_append_of_no_events_asserts_the_version_and_changes_nothing() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "a-1", &events(2), Some(0)).unwrap();
    let before: i64 = value(&mut client, "SELECT last_position FROM mire.stats");
    let nothing = json!([]);

    let held = Appended {
        version: 2,
        position: NONE,
        duplicate: false,
    };
    for expected in [None, Some(2), Some(-1)] {
        assert_eq!(
            append(&mut client, "a-1", &nothing, expected).unwrap(),
            held
        );
    }
    let absent = Appended {
        version: 0,
        position: NONE,
        duplicate: false,
    };
    for expected in [None, Some(0)] {
        assert_eq!(
            append(&mut client, "a-2", &nothing, expected).unwrap(),
            absent
        );
    }
    for (stream, expected, sqlstate) in [
        ("a-1", 0, "MI001"),
        ("a-1", 1, "MI001"),
        ("a-1", 3, "MI001"),
        ("a-2", 1, "MI001"),
        ("a-2", -1, "MI002"),
        ("a-2", -2, "22023"),
    ] {
        refused(
            append(&mut client, stream, &nothing, Some(expected)),
            sqlstate,
        );
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.stream_heads"),
        1
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT last_position FROM mire.stats"),
        before
    );
}

#[test]
fn an_asserted_version_stays_true_until_the_transaction_ends() {
    let database = shared().fresh_database().unwrap();
    let (mut one, mut other) = (connect(&database.url), connect(&database.url));
    append(&mut one, "a-1", &events(1), Some(0)).unwrap();

    let mut asserting = one.transaction().unwrap();
    append(&mut asserting, "a-1", &json!([]), Some(1)).unwrap();
    let waiting = pid(&mut other);
    let appending = thread::spawn(move || append(&mut other, "a-1", &events(1), Some(1)));
    wait_until_blocked(&database, waiting);
    assert_eq!(
        value::<i64>(&mut asserting, "SELECT mire.stream_version('a-1')"),
        1
    );
    asserting.commit().unwrap();
    assert_eq!(appending.join().unwrap().unwrap().version, 2);
}

#[test]
fn one_of_sixteen_concurrent_creators_wins_and_the_others_get_a_conflict() {
    const CREATORS: usize = 16;
    let database = shared().fresh_database().unwrap();
    let rounds = 20;
    let mut clients: Vec<Client> = (0..CREATORS).map(|_| connect(&database.url)).collect();
    for round in 0..rounds {
        let stream = format!("race-{round}");
        let start = Barrier::new(CREATORS);
        let won = thread::scope(|scope| {
            let creators: Vec<_> = clients
                .iter_mut()
                .map(|client| {
                    let (stream, start) = (&stream, &start);
                    scope.spawn(move || {
                        start.wait();
                        match append(client, stream, &events(2), Some(0)) {
                            Ok(appended) => {
                                assert_eq!(appended.version, 2);
                                1
                            }
                            lost => {
                                refused(lost, "MI001");
                                0
                            }
                        }
                    })
                })
                .collect();
            creators
                .into_iter()
                .map(|one| one.join().unwrap())
                .sum::<i32>()
        });
        assert_eq!(won, 1, "{stream}");
    }
    let kept = "SELECT count(*) FROM mire.streams WHERE version = 2";
    assert_eq!(value::<i64>(&mut clients[0], kept), rounds);
    println!("{rounds} streams, {CREATORS} creators each, one winner each");
}

#[test]
fn missing_ids_and_metadata_are_filled_in_one_by_one() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let mine = Uuid::new_v4();
    let (types, data) = (["a", "b", "c"], [json!(null), json!(1), json!([{}])]);
    let metadata = [None, Some(json!({"actor": "ann"})), None];
    let ids = [None, Some(mine), None];
    client
        .query_one(
            "SELECT * FROM mire.append_events('m-1', $1, $2, $3, $4, 0)",
            &[&&types[..], &&data[..], &&metadata[..], &&ids[..]],
        )
        .unwrap();
    // Both arrays NULL, and both left out.
    for call in [
        "SELECT mire.append_events('m-1', ARRAY['d'], ARRAY['{}']::jsonb[], NULL, NULL, 3)",
        "SELECT mire.append_events('m-1', ARRAY['e'], ARRAY['{}']::jsonb[])",
    ] {
        client.execute(call, &[]).unwrap();
    }
    let with_null = json!([{"type": "f", "data": null, "metadata": null, "id": null}]);
    append(&mut client, "m-1", &with_null, Some(5)).unwrap();

    let rows = client
        .query("SELECT * FROM mire.read_stream('m-1')", &[])
        .unwrap();
    let seen: Vec<(String, Value, Option<Value>)> = rows
        .iter()
        .map(|row| (row.get("type"), row.get("data"), row.get("metadata")))
        .collect();
    let plain = |name: &str, data: Value| (name.to_owned(), data, None);
    assert_eq!(
        seen,
        [
            plain("a", json!(null)),
            ("b".to_owned(), json!(1), Some(json!({"actor": "ann"}))),
            plain("c", json!([{}])),
            plain("d", json!({})),
            plain("e", json!({})),
            plain("f", json!(null)),
        ]
    );
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get("event_id")).collect();
    assert_eq!(ids[1], mine);
    for (number, id) in ids.iter().enumerate().filter(|(number, _)| *number != 1) {
        assert_eq!(id.get_version_num(), 7, "event {number}");
    }
}

#[test]
fn ids_made_by_the_server_are_in_order_of_time_and_carry_it() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for _ in 0..40 {
        append(&mut client, "ids-1", &events(50), None).unwrap();
    }
    let (unordered, astray): (i64, i64) = {
        let row = client
            .query_one(
                "SELECT count(*) FILTER (WHERE event_id <= before),
                        count(*) FILTER (WHERE abs(extract(epoch FROM recorded_at) * 1000
                          - ('x' || left(replace(event_id::text, '-', ''), 12))::bit(48)::bigint) > 1000)
                   FROM (SELECT *, lag(event_id) OVER (ORDER BY version) AS before
                           FROM mire.read_stream('ids-1', max_count => 10000)) AS e",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((unordered, astray), (0, 0));
}

#[test]
fn positions_and_times_follow_versions_in_every_stream() {
    const WRITERS: usize = 6;
    let database = shared().fresh_database().unwrap();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = connect(&database.url);
            scope.spawn(move || {
                for number in 0..60 {
                    // Every stream is shared by all writers.
                    let stream = format!("order-{}", (writer + number) % 5);
                    append(&mut client, &stream, &events(1 + number % 7), None).unwrap();
                }
            });
        }
    });
    let mut client = connect(&database.url);
    let faults: i64 = value(
        &mut client,
        "SELECT count(*) FROM (
           SELECT version <> row_number() OVER w AS gap, position <= lag(position) OVER w AS inverted,
                  recorded_at < lag(recorded_at) OVER w AS backward
             FROM mire.events WINDOW w AS (PARTITION BY stream_no ORDER BY version)) AS e
          WHERE gap OR inverted OR backward",
    );
    assert_eq!(faults, 0);
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.streams"),
        5
    );
}
