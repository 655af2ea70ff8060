//! Section 1: snapshots are keyed by stream and schema version, never ahead of the stream, and an older one never
//! replaces a newer.

use std::thread;

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, refused, value};
use postgres::{Client, Error};
use serde_json::{Value, json};

fn save(client: &mut Client, version: i64, schema: i32) -> Result<bool, Error> {
    let state = json!({"as of": version});
    client
        .query_one(
            "SELECT mire.save_snapshot('s-1', $1, $2, $3)",
            &[&version, &schema, &state],
        )
        .map(|row| row.get(0))
}

/// The version and the state of the snapshot that a load of this schema uses.
fn usable(client: &mut Client, schema: i32) -> Option<(i64, Value)> {
    let load = "SELECT version, data FROM mire.load_stream('s-1', $1) WHERE type = '$snapshot'";
    let row = client.query_opt(load, &[&schema]).unwrap()?;
    Some((row.get(0), row.get(1)))
}

#[test]
fn an_older_snapshot_never_replaces_a_newer() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(10), Some(0)).unwrap();
    for (version, kept, usable_version) in [
        (4, true, 4),
        (3, false, 4),
        (4, false, 4),
        (9, true, 9),
        (1, false, 9),
    ] {
        assert_eq!(
            save(&mut client, version, 1).unwrap(),
            kept,
            "version {version}"
        );
        let state = json!({"as of": usable_version});
        assert_eq!(usable(&mut client, 1), Some((usable_version, state)));
    }
}

#[test]
fn deployments_with_different_schemas_leave_each_others_snapshots_alone() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(10), Some(0)).unwrap();
    assert!(save(&mut client, 8, 2).unwrap());
    assert!(
        save(&mut client, 5, 1).unwrap(),
        "the old deployment is behind, and keeps its own"
    );
    assert!(save(&mut client, 10, 0).unwrap());
    let versions =
        [0, 1, 2, 3].map(|schema| usable(&mut client, schema).map(|(version, _)| version));
    assert_eq!(versions, [Some(10), Some(5), Some(8), None]);

    let delete = |client: &mut Client, schema: Option<i32>| -> i64 {
        client
            .query_one("SELECT mire.delete_snapshots('s-1', $1)", &[&schema])
            .unwrap()
            .get(0)
    };
    assert_eq!(delete(&mut client, Some(3)), 0);
    assert_eq!(delete(&mut client, Some(1)), 1);
    assert_eq!(usable(&mut client, 1), None);
    assert_eq!(usable(&mut client, 2).unwrap().0, 8);
    assert!(
        save(&mut client, 2, 1).unwrap(),
        "what is gone holds nothing back"
    );
    assert_eq!(delete(&mut client, None), 3);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.delete_snapshots('no-1')"),
        0
    );
}

#[test]
fn a_snapshot_is_never_ahead_of_its_stream() {
    let database = shared().fresh_database().unwrap();
    let (mut client, mut other) = (connect(&database.url), connect(&database.url));
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    let said = refused(save(&mut client, 4, 1), "MI001");
    let detail: Value = serde_json::from_str(said.detail().unwrap()).unwrap();
    assert_eq!(detail, json!({"stream": "s-1", "expected": 4, "actual": 3}));

    // An append that is not committed, or is rolled back, does not count; one's own does.
    let mut open = other.transaction().unwrap();
    append(&mut open, "s-1", &events(1), Some(3)).unwrap();
    refused(save(&mut client, 4, 1), "MI001");
    let own = "SELECT mire.save_snapshot('s-1', 4, 1, '{}')";
    assert!(value::<bool>(&mut open, own));
    open.rollback().unwrap();
    assert_eq!(usable(&mut client, 1), None);
    assert!(save(&mut client, 3, 1).unwrap());
}

#[test]
fn what_cannot_be_a_snapshot_is_refused() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
    append(&mut client, "gone-1", &events(1), Some(0)).unwrap();
    client
        .execute("SELECT mire.delete_stream('gone-1')", &[])
        .unwrap();
    for (arguments, sqlstate) in [
        ("'s-2', 1, 1, '{}'", "MI002"),
        ("'gone-1', 1, 1, '{}'", "MI005"),
        ("'s-1', 0, 1, '{}'", "22023"),
        ("'s-1', -1, 1, '{}'", "22023"),
        ("'s-1', NULL, 1, '{}'", "22023"),
        ("'s-1', 1, -1, '{}'", "22023"),
        ("'s-1', 1, NULL, '{}'", "22023"),
        ("'s-1', 9223372036854775807, 1, '{}'", "MI001"),
        ("'s-1', 1, 1, NULL", "MI004"),
        ("'', 1, 1, '{}'", "MI004"),
        ("NULL, 1, 1, '{}'", "MI004"),
        ("'$s', 1, 1, '{}'", "MI004"),
    ] {
        let call = format!("SELECT mire.save_snapshot({arguments})");
        refused(client.query(&call, &[]), sqlstate);
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.snapshots"),
        0
    );
}

#[test]
fn concurrent_savers_leave_the_newest_and_do_not_block_appends() {
    const SAVERS: i64 = 8;
    const EACH: i64 = 50;
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let total = SAVERS * EACH;
    append(
        &mut client,
        "s-1",
        &events(usize::try_from(total).unwrap()),
        Some(0),
    )
    .unwrap();
    let kept: i64 = thread::scope(|scope| {
        let savers: Vec<_> = (0..SAVERS)
            .map(|saver| {
                let mut client = connect(&database.url);
                scope.spawn(move || {
                    // Each saver its own versions, in an order that has nothing to do with the others'.
                    let versions = (0..EACH).map(|n| (n * 37 % EACH) * SAVERS + saver + 1);
                    let kept = versions.filter(|version| save(&mut client, *version, 1).unwrap());
                    i64::try_from(kept.count()).unwrap()
                })
            })
            .collect();
        savers.into_iter().map(|saver| saver.join().unwrap()).sum()
    });
    assert_eq!(
        usable(&mut client, 1),
        Some((total, json!({"as of": total})))
    );
    assert!((1..=total).contains(&kept));
    println!("{total} saves by {SAVERS}, {kept} replaced an older one, the newest is there");

    let mut open = client.transaction().unwrap();
    open.query_one("SELECT mire.save_snapshot('s-1', 5, 2, '{}')", &[])
        .unwrap();
    let mut other = connect(&database.url);
    other.batch_execute("SET statement_timeout = '5s'").unwrap();
    append(&mut other, "s-1", &events(1), Some(total)).unwrap();
    open.commit().unwrap();
}
