//! Item 7 and section 1: `append_batch`. Every item has an outcome of its own, no outcome stops another, nobody waits,
//! and all of it is one commit.

use std::time::{Duration, Instant};

use mire_cluster::shared;
use mire_tests::batch::{Item, append_batch, names};
use mire_tests::session::{append, connect, events, value, wait_until};
use postgres::Client;
use serde_json::json;

/// A batch that waits for somebody's open transaction would wait for ever here.
const NO_WAIT: &str = "SET statement_timeout = '10s'";

fn count(client: &mut Client, stream: &str) -> i64 {
    value(
        client,
        &format!("SELECT count(*) FROM mire.read_stream('{stream}')"),
    )
}

#[test]
fn every_outcome_reaches_its_own_item_and_stops_no_other() {
    let database = shared().fresh_database().unwrap();
    let (mut client, mut other) = (connect(&database.url), connect(&database.url));
    client.batch_execute(NO_WAIT).unwrap();
    for stream in ["there-1", "stale-1", "gone-1", "locked-1"] {
        append(&mut client, stream, &events(2), Some(0)).unwrap();
    }
    client
        .execute("SELECT mire.delete_stream('gone-1')", &[])
        .unwrap();
    let sent = Item::new("retried-1", Some(0), 2);
    append_batch(&mut client, std::slice::from_ref(&sent)).unwrap();
    let mut holder = other.transaction().unwrap();
    append(&mut holder, "locked-1", &events(1), Some(2)).unwrap();
    append(&mut holder, "unborn-1", &events(1), Some(0)).unwrap();

    let items = [
        Item::new("new-1", Some(0), 3),            // appended
        Item::new("stale-1", Some(1), 1),          // conflict
        Item::new("there-1", Some(2), 1),          // appended
        sent,                                      // duplicate
        Item::new("locked-1", Some(2), 1),         // busy
        Item::new("unborn-1", Some(0), 1),         // busy
        Item::new("unborn-1", None, 1),            // busy
        Item::new("nowhere-1", Some(-1), 1),       // not_found
        Item::new("nowhere-1", Some(4), 1),        // conflict
        Item::new("gone-1", None, 1),              // deleted
        Item::event("$mine", "t", Some(json!(1))), // invalid
        Item::new("new-2", None, 1),               // appended
        Item::new("there-1", Some(3), 0),          // appended: asserts, and adds nothing
        Item::new("there-1", Some(9), 0),          // conflict
        Item::new("there-1", Some(-1), 1),         // appended
    ];
    let before: i64 = value(&mut client, "SELECT mire.last_position()");
    let start = Instant::now();
    let outcomes = append_batch(&mut client, &items).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "it must not wait");
    assert_eq!(
        names(&outcomes),
        [
            "appended",
            "conflict",
            "appended",
            "duplicate",
            "busy",
            "busy",
            "busy",
            "not_found",
            "conflict",
            "deleted",
            "invalid",
            "appended",
            "appended",
            "conflict",
            "appended"
        ]
    );
    let numbers: Vec<(i32, Option<i64>, Option<i64>)> = outcomes
        .iter()
        .map(|one| (one.item, one.version, one.actual))
        .collect();
    for (item, version, actual) in [
        (1, Some(3), None),
        (2, None, Some(2)),
        (3, Some(3), None),
        (4, Some(2), None),
        (5, None, None),
        (9, None, Some(0)),
        (13, Some(3), None),
        (14, None, Some(3)),
        (15, Some(4), None),
    ] {
        let (number, seen_version, seen_actual) = numbers[item - 1];
        assert_eq!((number as usize, seen_version), (item, version));
        if actual.is_some() {
            assert_eq!(seen_actual, actual, "item {item}");
        }
    }
    // Positions follow the items; a duplicate has its old one, and what appended nothing has none.
    let positions: Vec<Option<i64>> = outcomes
        .iter()
        .map(|one| one.position.map(|position| position - before))
        .collect();
    let new = |item: usize| positions[item - 1];
    assert_eq!(
        [new(1), new(3), new(12), new(15)],
        [Some(3), Some(4), Some(5), Some(6)]
    );
    assert!(new(4).unwrap() <= 0);
    assert!(
        [2, 5, 6, 7, 8, 9, 10, 11, 13, 14]
            .iter()
            .all(|item| new(*item).is_none())
    );
    assert!(
        outcomes
            .iter()
            .all(|one| one.reason.is_some() == (one.outcome == "invalid"))
    );

    holder.rollback().unwrap();
    let counted: Vec<i64> = [
        "new-1", "new-2", "there-1", "stale-1", "locked-1", "unborn-1",
    ]
    .map(|stream| count(&mut client, stream))
    .to_vec();
    assert_eq!(counted, [3, 1, 4, 2, 2, 0]);
}

#[test]
fn items_of_one_stream_apply_in_their_order() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let items = [
        Item::new("s-1", Some(0), 2),
        Item::new("s-2", Some(0), 1),
        Item::new("s-1", Some(0), 1), // conflict: the first item was earlier
        Item::new("s-1", Some(2), 1),
        Item::new("s-1", None, 2),
        Item::new("s-2", Some(-1), 1),
        Item::new("s-1", Some(5), 1),
    ];
    let outcomes = append_batch(&mut client, &items).unwrap();
    assert_eq!(
        names(&outcomes),
        [
            "appended", "appended", "conflict", "appended", "appended", "appended", "appended"
        ]
    );
    assert_eq!(outcomes[2].actual, Some(2));
    let sent: Vec<_> = [0, 3, 4, 6]
        .iter()
        .flat_map(|at: &usize| items[*at].ids.clone())
        .flatten()
        .collect();
    let kept = "SELECT array_agg(event_id ORDER BY version) FROM mire.read_stream('s-1')";
    assert_eq!(value::<Vec<uuid::Uuid>>(&mut client, kept), sent);
    // The whole batch again: what landed is a duplicate, and the conflict is one still.
    let again = append_batch(
        &mut client,
        &[
            items[0].clone(),
            items[2].clone(),
            items[3].clone(),
            items[6].clone(),
        ],
    );
    assert_eq!(
        names(&again.unwrap()),
        ["duplicate", "conflict", "duplicate", "duplicate"]
    );
}

#[test]
fn an_item_that_comes_twice_in_one_call_is_told_what_the_first_has_done() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let item = Item::new("s-1", Some(0), 3);
    let others = (0..5).map(|n| Item::new(format!("t-{n}"), Some(0), 2));
    let mut items = vec![item.clone()];
    items.extend(others);
    items.push(item);
    let outcomes = append_batch(&mut client, &items).unwrap();
    let (first, last) = (&outcomes[0], &outcomes[6]);
    assert_eq!(
        (first.outcome.as_str(), last.outcome.as_str()),
        ("appended", "duplicate")
    );
    assert_eq!(
        (last.version, last.position),
        (first.version, first.position)
    );
    assert_eq!(count(&mut client, "s-1"), 3);
    assert_eq!(count(&mut client, "t-4"), 2);
}

#[test]
fn a_stream_that_is_busy_for_one_item_is_busy_for_all_later_ones_of_the_call() {
    let database = shared().fresh_database().unwrap();
    let (mut client, mut other) = (connect(&database.url), connect(&database.url));
    client.batch_execute(NO_WAIT).unwrap();
    append(&mut client, "held-1", &events(1), Some(0)).unwrap();
    let mut holder = other.transaction().unwrap();
    append(&mut holder, "held-1", &json!([]), Some(1)).unwrap(); // a share lock suffices
    append(&mut holder, "unborn-1", &events(1), Some(0)).unwrap();
    let mut items: Vec<Item> = ["held-1", "unborn-1"]
        .iter()
        .flat_map(|stream| [Some(0), Some(1), None].map(|expected| Item::new(*stream, expected, 1)))
        .collect();
    items.push(Item::new("free-1", Some(0), 1));
    let outcomes = append_batch(&mut client, &items).unwrap();
    assert_eq!(names(&outcomes)[..3], ["busy"; 3]);
    assert_eq!(names(&outcomes)[6], "appended");
    // Expected 1 of a stream that nobody can see yet is a conflict; never is one of them appended.
    assert_eq!(names(&outcomes)[3..6], ["busy", "conflict", "busy"]);
    holder.commit().unwrap();
    assert_eq!(
        names(&append_batch(&mut client, &items[..2]).unwrap()),
        ["conflict", "appended"]
    );
}

#[test]
fn a_creator_that_slips_in_between_is_waited_for_a_few_milliseconds_only() {
    let database = shared().fresh_database().unwrap();
    // The look that normally sees uncommitted creators is blinded, so that the INSERT meets one.
    database
        .sql("CREATE OR REPLACE FUNCTION mire_internal.being_created(stream text) RETURNS boolean LANGUAGE sql AS 'SELECT false'")
        .unwrap();
    let (mut client, mut other) = (connect(&database.url), connect(&database.url));
    client.batch_execute(NO_WAIT).unwrap();
    append(&mut client, "there-1", &events(1), Some(0)).unwrap();
    let mut holder = other.transaction().unwrap();
    append(&mut holder, "unborn-1", &events(1), Some(0)).unwrap();
    client
        .batch_execute("SET lock_timeout = '1234ms'; BEGIN")
        .unwrap();
    let items = [
        Item::new("unborn-1", Some(0), 1),
        Item::new("there-1", Some(1), 1),
        Item::new("new-1", Some(0), 1),
    ];
    let start = Instant::now();
    let outcomes = append_batch(&mut client, &items).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(names(&outcomes)[..2], ["busy", "appended"]);
    assert_eq!(value::<String>(&mut client, "SHOW lock_timeout"), "1234ms");
    client.batch_execute("COMMIT").unwrap();
    holder.commit().unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('unborn-1')"),
        1
    );
}

#[test]
fn the_sessions_own_lock_timeout_is_left_as_it_was() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let show = "SHOW lock_timeout";
    for (number, set) in ["0", "4321ms"].into_iter().enumerate() {
        client
            .batch_execute(&format!("SET lock_timeout = '{set}'"))
            .unwrap();
        append_batch(
            &mut client,
            &[Item::new(format!("one-{number}"), Some(0), 1)],
        )
        .unwrap();
        assert_eq!(value::<String>(&mut client, show), set);
        let mut open = client.transaction().unwrap();
        open.batch_execute("SET LOCAL lock_timeout = '77ms'")
            .unwrap();
        append_batch(&mut open, &[Item::new(format!("two-{number}"), Some(0), 1)]).unwrap();
        assert_eq!(value::<String>(&mut open, show), "77ms");
        open.commit().unwrap();
        assert_eq!(value::<String>(&mut client, show), set);
    }
}

#[test]
fn a_batch_is_one_transaction_and_one_commit() {
    const ITEMS: usize = 300;
    let database = shared().fresh_database().unwrap();
    let mut observer = connect(&database.url);
    let commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let items: Vec<Item> = (0..ITEMS)
        .map(|n| Item::new(format!("s-{n}"), Some(0), 2))
        .collect();
    observer
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .unwrap();
    let before: i64 = value(&mut observer, commits);
    let mut client = connect(&database.url);
    assert_eq!(append_batch(&mut client, &items).unwrap().len(), ITEMS);
    client.close().unwrap(); // flushes its counts
    wait_until("the session has counted its commits", || {
        let gone = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'";
        value::<i64>(&mut observer, gone) == 1
    });
    let writers: i64 = value(
        &mut observer,
        "SELECT count(DISTINCT xmin::text) FROM mire.events",
    );
    assert_eq!(writers, 1);
    let spent = value::<i64>(&mut observer, commits) - before;
    assert!(spent < 50, "{spent} commits for {ITEMS} items");
    println!(
        "{ITEMS} items, {writers} writing transaction, {spent} commits with everything around it"
    );
}
