//! Subscriptions, one worker's view: what a definition is, that a checkpoint is durable and only moves forward, that whoever
//! lost the partition is refused with all its transaction wrote, and where reading begins and goes on.

use mire_cluster::{Database, shared};
use mire_tests::session::{append, connect, events, refused, value, wait_until};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::Client;
use serde_json::json;

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for stream in ["cat-1", "dog-1", "cat-2"] {
        append(&mut client, stream, &events(2), None).unwrap();
    }
    client
        .batch_execute("CREATE TABLE model (position bigint PRIMARY KEY)")
        .unwrap();
    (database, client)
}

fn model(client: &mut Client) -> i64 {
    value(client, "SELECT count(*) FROM model")
}

/// The read model and the checkpoint in one transaction; what is refused leaves neither.
#[track_caller]
fn refused_with_all_it_wrote(client: &mut Client, worker: &Partition<'_>, to: i64, code: &str) {
    let before = model(client);
    let mut transaction = client.transaction().unwrap();
    transaction
        .batch_execute("INSERT INTO model VALUES (1000)")
        .unwrap();
    refused(worker.checkpoint(&mut transaction, to), code);
    refused(transaction.batch_execute("SELECT 1"), "25P02");
    transaction.commit().unwrap();
    assert_eq!(model(client), before);
}

#[test]
fn create_is_idempotent_and_another_definition_is_42710() {
    let (_database, mut client) = store();
    let create = |client: &mut Client, arguments: &str| {
        client
            .query_one(
                &format!("SELECT mire.create_subscription({arguments})"),
                &[],
            )
            .map(|row| row.get::<_, bool>(0))
    };
    let first = "'s', '{cat,dog}', '{happened}', 2, 3";
    assert!(create(&mut client, first).unwrap());
    for same in [
        first,
        "'s', '{dog,cat,dog}', '{happened}', 2, 3",
        "name => 's', start => 2, partitions => 3, types => '{happened}', categories => '{dog,cat}'",
    ] {
        assert!(!create(&mut client, same).unwrap(), "{same}");
    }
    for other in [
        "'s', '{cat}', '{happened}', 2, 3",
        "'s', NULL, '{happened}', 2, 3",
        "'s', '{cat,dog}', NULL, 2, 3",
        "'s', '{cat,dog}', '{happened}', 1, 3",
        "'s', '{cat,dog}', '{happened}', NULL, 3",
        "'s', '{cat,dog}', '{happened}', 2, 2",
    ] {
        let said = refused(create(&mut client, other), "42710");
        assert!(serde_json::from_str::<serde_json::Value>(said.detail().unwrap()).is_ok());
    }
    client
        .batch_execute("SELECT mire.alter_subscription('s', '{cat}', NULL, 4)")
        .unwrap();
    assert!(!create(&mut client, "'s', '{cat}', NULL, 2, 4").unwrap());
    refused(create(&mut client, first), "42710");
}

#[test]
fn a_worker_fetches_handles_and_checkpoints_and_its_successor_goes_on() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let first = acquire(&mut client, "s", 0, "first", "1 min").unwrap();
    assert_eq!((first.acquired, first.checkpoint), (true, 0));
    let other = acquire(&mut client, "s", 0, "other", "1 min").unwrap();
    assert_eq!(
        (other.acquired, other.fence, other.holder.as_deref()),
        (false, None, Some("first"))
    );
    let epoch: i64 = value(&mut client, "SELECT epoch FROM mire.store_info()");
    assert_eq!((first.epoch, other.epoch), (epoch, epoch));

    let worker = Partition {
        name: "s",
        number: 0,
        fence: first.fence.unwrap(),
    };
    let page = worker.fetch(&mut client, 4).unwrap();
    assert_eq!((page.positions(), page.next), (vec![1, 2, 3, 4], 4));
    worker.checkpoint(&mut client, page.events[2].next).unwrap();
    let release = "SELECT mire.release_subscription('s', 0, $1)";
    let released = |client: &mut Client| -> bool {
        client.query_one(release, &[&worker.fence]).unwrap().get(0)
    };
    assert!(released(&mut client));
    assert!(!released(&mut client));
    let second = acquire(&mut client, "s", 0, "other", "1 min").unwrap();
    assert_eq!((second.acquired, second.checkpoint), (true, 3));
    assert!(second.fence > first.fence);
    let worker = Partition {
        fence: second.fence.unwrap(),
        ..worker
    };
    assert_eq!(worker.fetch(&mut client, 9).unwrap().positions(), [4, 5, 6]);
}

#[test]
fn a_superseded_worker_is_refused_with_all_it_wrote() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let old = Partition::acquire(&mut client, "s", 0);
    assert_eq!(old.fetch(&mut client, 9).unwrap().next, 6);
    let new = Partition::acquire(&mut client, "s", 0);
    refused_with_all_it_wrote(&mut client, &old, 6, "MI003");
    refused(old.fetch(&mut client, 9), "MI003");
    refused(old.parked(&mut client, 9), "MI003");
    refused(old.fails(&mut client, 1, "park"), "MI003");
    refused(old.handled_parked(&mut client, "cat-1", 1), "MI003");
    assert_eq!(new.fetch(&mut client, 9).unwrap().next, 6);
}

#[test]
fn an_expired_and_a_released_worker_are_refused_with_all_they_wrote() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    for end in ["ttl", "release"] {
        let lease = acquire(&mut client, "s", 0, end, "700 ms").unwrap();
        let worker = Partition {
            name: "s",
            number: 0,
            fence: lease.fence.unwrap(),
        };
        worker.fetch(&mut client, 9).unwrap();
        if end == "release" {
            client
                .execute(
                    "SELECT mire.release_subscription('s', 0, $1)",
                    &[&worker.fence],
                )
                .unwrap();
        }
        let over = "SELECT bool_and(expires_at <= clock_timestamp()) FROM mire.leases";
        wait_until("its lease is over", || value(&mut client, over));
        refused_with_all_it_wrote(&mut client, &worker, 6, "MI003");
        refused(worker.fetch(&mut client, 9), "MI003");
    }
}

#[test]
fn the_worker_of_a_reset_or_dropped_subscription_is_refused_with_all_it_wrote() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 9).unwrap();
    worker.checkpoint(&mut client, 4).unwrap();
    client
        .batch_execute("SELECT mire.reset_subscription('s', 1)")
        .unwrap();
    refused_with_all_it_wrote(&mut client, &worker, 6, "MI003");
    let worker = Partition::acquire(&mut client, "s", 0);
    assert_eq!(worker.fetch(&mut client, 2).unwrap().positions(), [2, 3]);
    let dropped = "SELECT mire.drop_subscription('s')";
    assert!(value::<bool>(&mut client, dropped));
    assert!(!value::<bool>(&mut client, dropped));
    refused_with_all_it_wrote(&mut client, &worker, 3, "42704");
    refused(worker.fetch(&mut client, 9), "42704");
    // A new one under the old name is not the old one's.
    create(&mut client, "s", 1);
    refused_with_all_it_wrote(&mut client, &worker, 3, "MI003");
    assert_eq!(
        acquire(&mut client, "s", 0, "w", "1 min")
            .unwrap()
            .checkpoint,
        0
    );
}

#[test]
fn dropping_leaves_subscriptions_whose_names_begin_alike_alone() {
    let (_database, mut client) = store();
    let names = ["a/b", "a/1", "a/1/1", "a0", "a"];
    let workers = names.map(|name| {
        create(&mut client, name, 1);
        Partition::acquire(&mut client, name, 0)
    });
    assert!(value::<bool>(
        &mut client,
        "SELECT mire.drop_subscription('a')"
    ));
    for worker in &workers[..4] {
        worker.fetch(&mut client, 9).unwrap();
        worker.checkpoint(&mut client, 6).unwrap();
    }
}

#[test]
fn a_checkpoint_moves_forward_and_no_further_than_handed_out_under_its_fence() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    refused_with_all_it_wrote(&mut client, &worker, 1, "22023");
    assert_eq!(worker.fetch(&mut client, 3).unwrap().next, 3);
    refused_with_all_it_wrote(&mut client, &worker, 4, "22023");
    worker.checkpoint(&mut client, 2).unwrap();
    worker.checkpoint(&mut client, 2).unwrap();
    refused_with_all_it_wrote(&mut client, &worker, 1, "22023");
    // What the former self was handed out is not the successor's.
    let next = Partition::acquire(&mut client, "s", 0);
    refused_with_all_it_wrote(&mut client, &next, 3, "22023");
}

#[test]
fn a_checkpoint_that_has_caught_up_moves_over_holes_and_filtered_events_by_itself() {
    let (_database, mut client) = store();
    client
        .batch_execute("SELECT mire.create_subscription('s', '{dog}')")
        .unwrap();
    let worker = Partition::acquire(&mut client, "s", 0);
    assert_eq!(worker.fetch(&mut client, 9).unwrap().positions(), [3, 4]);
    worker.checkpoint(&mut client, 4).unwrap();
    let mut aborted = client.transaction().unwrap();
    append(&mut aborted, "dog-1", &events(3), None).unwrap();
    aborted.rollback().unwrap();
    append(&mut client, "cat-1", &events(1), None).unwrap();
    let page = worker.fetch(&mut client, 9).unwrap();
    assert_eq!((page.positions(), page.next), (vec![], 10));
    let checkpoint = "SELECT mire.subscription_checkpoint('s')";
    assert_eq!(value::<i64>(&mut client, checkpoint), 10);
    // Not while something is in its hands.
    append(&mut client, "dog-1", &events(1), None).unwrap();
    append(&mut client, "cat-1", &events(1), None).unwrap();
    assert_eq!(worker.fetch(&mut client, 9).unwrap().next, 12);
    assert!(
        worker
            .fetch_after(&mut client, 9, Some(12))
            .unwrap()
            .events
            .is_empty()
    );
    assert_eq!(value::<i64>(&mut client, checkpoint), 10);
}

#[test]
fn reading_begins_at_0_or_after_a_position_or_from_now_on() {
    let (database, mut client) = store();
    // In flight while the subscription is made: it lies below what is committed already.
    let mut writer = connect(&database.url);
    let mut open = writer.transaction().unwrap();
    append(&mut open, "cat-9", &events(1), None).unwrap();
    append(&mut client, "dog-1", &events(1), None).unwrap();
    for (name, start) in [("all", "0"), ("some", "4"), ("new", "NULL")] {
        client
            .batch_execute(&format!(
                "SELECT mire.create_subscription('{name}', start => {start})"
            ))
            .unwrap();
    }
    open.commit().unwrap();
    for (name, expected) in [("all", 1..=8), ("some", 5..=8), ("new", 7..=8)] {
        let worker = Partition::acquire(&mut client, name, 0);
        let page = worker.fetch(&mut client, 99).unwrap();
        assert_eq!(page.positions(), expected.collect::<Vec<_>>(), "{name}");
    }
    let beyond = "SELECT mire.create_subscription('beyond', start => 9)";
    refused(client.simple_query(beyond), "22023");
}

#[test]
fn filters_are_by_category_and_type() {
    let (_database, mut client) = store();
    let born = json!([{"type": "born", "data": {}}]);
    for stream in ["cat-1", "dog-1", "fish-1"] {
        append(&mut client, stream, &born, None).unwrap();
    }
    for (filter, expected) in [
        ("NULL, NULL", (1..=9).collect()),
        ("'{}', '{}'", (1..=9).collect()),
        ("'{dog}', NULL", vec![3, 4, 8]),
        ("'{fish,cat}', NULL", vec![1, 2, 5, 6, 7, 9]),
        ("NULL, '{born}'", vec![7, 8, 9]),
        ("'{cat,dog}', '{born,dead}'", vec![7, 8]),
        ("'{none}', NULL", vec![]),
    ] {
        client
            .batch_execute(&format!("SELECT mire.create_subscription('s', {filter})"))
            .unwrap();
        let worker = Partition::acquire(&mut client, "s", 0);
        let page = worker.fetch(&mut client, 99).unwrap();
        assert_eq!((page.positions(), page.next), (expected, 9), "{filter}");
        client
            .batch_execute("SELECT mire.drop_subscription('s')")
            .unwrap();
    }
}

#[test]
fn a_filter_that_rarely_matches_moves_on_by_its_scan_budget() {
    let (_database, mut client) = store();
    append(&mut client, "cat-1", &events(500), None).unwrap();
    append(
        &mut client,
        "cat-1",
        &json!([{"type": "rare", "data": {}}]),
        None,
    )
    .unwrap();
    client
        .batch_execute(
            "SET mire.scan_budget = 100; SELECT mire.create_subscription('s', types => '{rare}')",
        )
        .unwrap();
    let worker = Partition::acquire(&mut client, "s", 0);
    let mut looked = Vec::new();
    let page = loop {
        let page = worker.fetch(&mut client, 10).unwrap();
        if !page.events.is_empty() {
            break page;
        }
        looked.push(page.next);
    };
    assert_eq!(looked, [100, 200, 300, 400, 500]);
    assert_eq!(page.positions(), [507]);
}

#[test]
fn an_open_append_holds_a_worker_back_until_it_commits() {
    let (database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    let mut session = connect(&database.url);
    let mut open = session.transaction().unwrap();
    append(&mut open, "late-1", &events(1), None).unwrap();
    append(&mut client, "cat-1", &events(1), None).unwrap();
    let page = worker.fetch(&mut client, 9).unwrap();
    assert_eq!((page.positions(), page.next), ((1..=6).collect(), 6));
    worker.checkpoint(&mut client, 6).unwrap();
    let page = worker.fetch(&mut client, 9).unwrap();
    assert_eq!((page.positions(), page.next), (vec![], 6));
    open.commit().unwrap();
    assert_eq!(worker.fetch(&mut client, 9).unwrap().positions(), [7, 8]);
}

#[test]
fn the_next_page_can_be_fetched_while_one_is_in_hand() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    refused(worker.fetch_after(&mut client, 2, Some(2)), "22023");
    assert_eq!(worker.fetch(&mut client, 2).unwrap().next, 2);
    let ahead = worker.fetch_after(&mut client, 2, Some(2)).unwrap();
    assert_eq!(ahead.positions(), [3, 4]);
    worker.checkpoint(&mut client, 2).unwrap();
    worker.checkpoint(&mut client, 4).unwrap();
    for outside in [3, 5, -1, i64::MAX] {
        refused(worker.fetch_after(&mut client, 2, Some(outside)), "22023");
    }
    assert_eq!(worker.fetch(&mut client, 9).unwrap().positions(), [5, 6]);
}

#[test]
fn pausing_hands_nothing_out_until_resumed() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 2).unwrap();
    worker.fails(&mut client, 2, "park").unwrap();
    client
        .batch_execute("SELECT mire.retry_parked('s', 'cat-1'), mire.pause_subscription('s')")
        .unwrap();
    assert!(
        worker
            .fetch_after(&mut client, 9, Some(2))
            .unwrap()
            .events
            .is_empty()
    );
    worker.checkpoint(&mut client, 2).unwrap();
    assert!(worker.parked(&mut client, 9).unwrap().is_empty());
    let page = worker.fetch(&mut client, 9).unwrap();
    assert_eq!((page.positions(), page.next), (vec![], 2));
    client
        .batch_execute("SELECT mire.resume_subscription('s')")
        .unwrap();
    assert_eq!(
        worker.fetch(&mut client, 9).unwrap().positions(),
        [3, 4, 5, 6]
    );
    worker.checkpoint(&mut client, 6).unwrap();
    assert_eq!(
        worker.parked(&mut client, 9).unwrap(),
        [("cat-1".into(), 2)]
    );
}

#[test]
fn fetching_is_the_heartbeat() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let lease = acquire(&mut client, "s", 0, "w", "900 ms").unwrap();
    let worker = Partition {
        name: "s",
        number: 0,
        fence: lease.fence.unwrap(),
    };
    let expiry = "SELECT expires_at::text FROM mire.leases";
    let (first, mut extended): (String, _) = (value(&mut client, expiry), 0);
    let mut last = first.clone();
    let old = format!("SELECT clock_timestamp() > '{first}'::timestamptz + interval '1 s'");
    wait_until("it has outlived its first ttl", || {
        worker.fetch(&mut client, 1).unwrap();
        let now: String = value(&mut client, expiry);
        extended += i32::from(now != last);
        last = now;
        value(&mut client, &old)
    });
    // Not at every fetch.
    assert!((2..=9).contains(&extended), "extended {extended} times");
}
