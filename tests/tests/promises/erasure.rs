//! Section 1: `delete_stream` and `truncate_stream` are deliberate, tombstoned, and visible in the feed.

use std::thread;

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, pid, refused, value, wait_until_blocked};
use postgres::Client;
use serde_json::{Value, json};

/// Version, type and data of what read_stream shows.
fn shown(client: &mut Client, stream: &str) -> Vec<(i64, String, Value)> {
    let call = "SELECT version, type, data FROM mire.read_stream($1)";
    let rows = client.query(call, &[&stream]).unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

fn feed(client: &mut Client) -> Vec<(String, i64, String)> {
    let call = "SELECT stream, version, type FROM mire.read_all() WHERE position IS NOT NULL";
    let rows = client.query(call, &[]).unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

fn entry(stream: &str, version: i64, kind: &str) -> (String, i64, String) {
    (stream.to_owned(), version, kind.to_owned())
}

#[test]
fn a_deleted_stream_leaves_nothing_but_its_tombstone() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    append(&mut client, "s-2", &events(1), Some(0)).unwrap();
    client
        .execute("SELECT mire.save_snapshot('s-1', 2, 1, '\"secret\"')", &[])
        .unwrap();
    refused(
        client.query("SELECT mire.delete_stream('s-1', 2)", &[]),
        "MI001",
    );

    let row = client
        .query_one("SELECT * FROM mire.delete_stream('s-1', 3)", &[])
        .unwrap();
    assert_eq!(
        (
            row.get("version"),
            row.get("position"),
            row.get("duplicate")
        ),
        (4i64, Some(5i64), false)
    );
    let tombstone = (
        4,
        "$stream_deleted".to_owned(),
        json!({"before_version": 4}),
    );
    assert_eq!(shown(&mut client, "s-1"), [tombstone]);
    assert_eq!(
        feed(&mut client),
        [
            entry("s-2", 1, "happened"),
            entry("s-1", 4, "$stream_deleted")
        ]
    );
    let header: Value = value(
        &mut client,
        "SELECT data FROM mire.load_stream('s-1', 1) LIMIT 1",
    );
    assert_eq!(header, json!({"truncated_before": 4, "deleted": true}));
    let remains = "SELECT count(*) FROM mire.snapshots";
    assert_eq!(value::<i64>(&mut client, remains), 0);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('s-1')"),
        4
    );

    // Its name is not used again, whatever is expected of it.
    for expected in [None, Some(0), Some(-1), Some(4), Some(3)] {
        refused(append(&mut client, "s-1", &events(1), expected), "MI005");
        refused(append(&mut client, "s-1", &json!([]), expected), "MI005");
    }
    for call in [
        "mire.delete_stream('s-1')",
        "mire.truncate_stream('s-1', 2)",
        "mire.save_snapshot('s-1', 4, 1, '{}')",
    ] {
        refused(client.query(&format!("SELECT {call}"), &[]), "MI005");
    }
    refused(
        client.query("SELECT mire.delete_stream('s-3')", &[]),
        "MI002",
    );
    refused(
        client.query("SELECT mire.delete_stream('s-2', -2)", &[]),
        "22023",
    );
}

#[test]
fn a_truncated_stream_goes_on_with_its_versions() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(5), Some(0)).unwrap();
    for before in ["0", "1", "-1", "7", "NULL", "9223372036854775807"] {
        let call = format!("SELECT mire.truncate_stream('s-1', {before})");
        refused(client.query(&call, &[]), "22023");
    }
    refused(
        client.query("SELECT mire.truncate_stream('s-2', 2)", &[]),
        "MI002",
    );

    client
        .execute("SELECT mire.save_snapshot('s-1', 3, 1, '{}')", &[])
        .unwrap();
    let row = client
        .query_one("SELECT * FROM mire.truncate_stream('s-1', 4)", &[])
        .unwrap();
    assert_eq!(
        (row.get("version"), row.get("position")),
        (6i64, Some(6i64))
    );
    assert_eq!(
        append(&mut client, "s-1", &events(1), Some(6))
            .unwrap()
            .version,
        7
    );
    let kinds = |rows: Vec<(i64, String, Value)>| -> Vec<(i64, String)> {
        rows.into_iter()
            .map(|(version, kind, _)| (version, kind))
            .collect()
    };
    let named = |version: i64, kind: &str| (version, kind.to_owned());
    assert_eq!(
        kinds(shown(&mut client, "s-1")),
        [
            named(4, "happened"),
            named(5, "happened"),
            named(6, "$stream_truncated"),
            named(7, "happened")
        ]
    );
    let positions = "SELECT array_agg(position ORDER BY position) FROM mire.read_all()";
    assert_eq!(value::<Vec<i64>>(&mut client, positions), [4, 5, 6, 7]);

    // The snapshot covers what is gone: a load has it and the whole tail.
    let loaded = "SELECT array_agg(type || version) FROM mire.load_stream('s-1', 1)";
    assert_eq!(
        value::<Vec<String>>(&mut client, loaded),
        [
            "$stream7",
            "$snapshot3",
            "happened4",
            "happened5",
            "$stream_truncated6",
            "happened7"
        ]
    );
    let header: Value = value(
        &mut client,
        "SELECT data FROM mire.load_stream('s-1') LIMIT 1",
    );
    assert_eq!(header, json!({"truncated_before": 4, "deleted": false}));

    // Everything may go; and a second time lower, which takes nothing and says so honestly.
    client
        .execute("SELECT mire.truncate_stream('s-1', 8)", &[])
        .unwrap();
    client
        .execute("SELECT mire.truncate_stream('s-1', 2)", &[])
        .unwrap();
    assert_eq!(
        kinds(shown(&mut client, "s-1")),
        [named(8, "$stream_truncated"), named(9, "$stream_truncated")]
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT truncated_before FROM mire.streams"),
        8
    );
}

#[test]
fn a_snapshot_with_a_gap_behind_it_is_not_offered() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(6), Some(0)).unwrap();
    client
        .execute(
            "SELECT mire.save_snapshot('s-1', 2, 1, '{}'), mire.save_snapshot('s-1', 4, 2, '{}')",
            &[],
        )
        .unwrap();
    client
        .execute("SELECT mire.truncate_stream('s-1', 5)", &[])
        .unwrap();
    // Event 3 is gone: from a snapshot of version 2 nobody gets to version 5.
    let snapshots =
        "SELECT array_agg(version) FROM mire.load_stream('s-1', $1) WHERE type = '$snapshot'";
    for (schema, version) in [(1, None), (2, Some(vec![4i64]))] {
        let row = client.query_one(snapshots, &[&schema]).unwrap();
        assert_eq!(
            row.get::<_, Option<Vec<i64>>>(0),
            version,
            "schema {schema}"
        );
    }
}

#[test]
fn an_erasure_that_is_rolled_back_erases_nothing() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    for call in [
        "mire.delete_stream('s-1')",
        "mire.truncate_stream('s-1', 3)",
    ] {
        let mut open = client.transaction().unwrap();
        open.query_one(&format!("SELECT {call}"), &[]).unwrap();
        open.rollback().unwrap();
    }
    assert_eq!(shown(&mut client, "s-1").len(), 3);
    assert_eq!(
        append(&mut client, "s-1", &events(1), Some(3))
            .unwrap()
            .version,
        4
    );
    // Nor does it leave the gate open behind it.
    refused(client.execute("DELETE FROM mire.events", &[]), "MI006");
}

#[test]
fn who_waited_for_a_stream_that_is_deleted_is_told_so() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    let mut deleting = client.transaction().unwrap();
    deleting
        .query_one("SELECT mire.delete_stream('s-1')", &[])
        .unwrap();
    let mut waiter = connect(&database.url);
    let waiting = pid(&mut waiter);
    let appending = thread::spawn(move || append(&mut waiter, "s-1", &events(1), Some(3)));
    wait_until_blocked(&database, waiting);
    deleting.commit().unwrap();
    refused(appending.join().unwrap(), "MI005");
}

#[test]
fn a_snapshot_saved_while_its_stream_is_deleted_does_not_outlive_it() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    let mut deleting = client.transaction().unwrap();
    deleting
        .query_one("SELECT mire.delete_stream('s-1')", &[])
        .unwrap();
    let mut saver = connect(&database.url);
    let saving = thread::spawn(move || {
        saver
            .query_one("SELECT mire.save_snapshot('s-1', 3, 1, '\"secret\"')", &[])
            .map(drop)
    });
    // Either it waits for us or it is already through: both are seen here, and only one is right.
    let mut observer = connect(&database.url);
    let undecided = "SELECT NOT EXISTS (SELECT FROM mire.snapshots)
                        AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                           AND cardinality(pg_blocking_pids(pid)) > 0)";
    mire_tests::session::wait_until("the saver has got as far as it can", || {
        !value::<bool>(&mut observer, undecided)
    });
    deleting.commit().unwrap();
    let saved = saving.join().unwrap();
    assert_eq!(
        value::<i64>(&mut observer, "SELECT count(*) FROM mire.snapshots"),
        0
    );
    refused(saved, "MI005");
}
