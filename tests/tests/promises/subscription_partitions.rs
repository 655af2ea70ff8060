//! Partitions: order within a stream, every event exactly once, and another number of them takes over when the old ones are
//! through.

use std::collections::{BTreeMap, BTreeSet};

use mire_cluster::{Database, shared};
use mire_tests::session::{append, connect, events, refused, value};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::Client;

fn store(streams: usize) -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for turn in 0..3 {
        for stream in 0..streams {
            append(&mut client, &format!("s-{stream}"), &events(1 + turn), None).unwrap();
        }
    }
    (database, client)
}

#[test]
fn partitions_together_see_every_event_once_and_each_stream_in_one_of_them() {
    let (_database, mut client) = store(20);
    create(&mut client, "s", 4);
    let mut partition_of = BTreeMap::new();
    let mut seen = Vec::new();
    for number in 0..4 {
        let worker = Partition::acquire(&mut client, "s", number);
        let mut versions: BTreeMap<String, i64> = BTreeMap::new();
        loop {
            let page = worker.fetch(&mut client, 7).unwrap();
            let Some(last) = page.events.last() else {
                break;
            };
            let last = last.next;
            for event in page.events {
                let version = versions.entry(event.stream.clone()).or_default();
                assert_eq!(event.version, *version + 1);
                *version = event.version;
                assert_eq!(*partition_of.entry(event.stream).or_insert(number), number);
                seen.push(event.position);
            }
            worker.checkpoint(&mut client, last).unwrap();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=120).collect::<Vec<i64>>());
    assert_eq!(partition_of.values().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn the_next_generation_waits_until_every_partition_has_reached_the_stop_position() {
    let (_database, mut client) = store(8);
    create(&mut client, "s", 2);
    let old = [0, 1].map(|number| Partition::acquire(&mut client, "s", number));
    client
        .batch_execute("SELECT mire.alter_subscription('s', partitions => 5)")
        .unwrap();
    append(&mut client, "s-0", &events(3), None).unwrap();
    let other = "SELECT mire.alter_subscription('s', partitions => 4)";
    refused(client.simple_query(other), "55000");
    let [first, second] = old;
    let page = first.fetch(&mut client, 999).unwrap();
    assert_eq!(page.next, 48, "no further than the stop position");
    first.checkpoint(&mut client, 48).unwrap();
    // Whoever is through waits for the other one.
    assert!(first.fetch(&mut client, 999).unwrap().events.is_empty());
    // All in one transaction, as a consumer may do it.
    let mut transaction = client.transaction().unwrap();
    assert_eq!(second.fetch(&mut transaction, 999).unwrap().next, 48);
    second.checkpoint(&mut transaction, 48).unwrap();
    assert!(
        second
            .fetch(&mut transaction, 999)
            .unwrap()
            .events
            .is_empty()
    );
    transaction.commit().unwrap();
    for worker in old {
        refused(worker.fetch(&mut client, 999), "MI003");
    }
    assert!(
        acquire(&mut client, "s", 4, "new", "1 min")
            .unwrap()
            .acquired
    );
    for worker in old {
        refused(worker.fetch(&mut client, 999), "MI003");
        refused(worker.checkpoint(&mut client, 48), "MI003");
    }
    let mut seen = Vec::new();
    for number in 0..5 {
        let lease = acquire(&mut client, "s", number, "new", "1 min").unwrap();
        assert_eq!(lease.checkpoint, 48);
        let worker = Partition {
            name: "s",
            number,
            fence: lease.fence.unwrap(),
        };
        seen.extend(worker.fetch(&mut client, 999).unwrap().positions());
    }
    assert_eq!(seen, [49, 50, 51]);
    client
        .batch_execute("SELECT mire.alter_subscription('s', partitions => 1)")
        .unwrap();
}

#[test]
fn an_idle_subscription_changes_at_once_also_behind_a_hole() {
    let (_database, mut client) = store(1);
    client
        .batch_execute("SELECT mire.create_subscription('s', start => NULL)")
        .unwrap();
    let mut aborted = client.transaction().unwrap();
    append(&mut aborted, "s-0", &events(2), None).unwrap();
    aborted.rollback().unwrap();
    client
        .batch_execute("SELECT mire.alter_subscription('s', partitions => 3)")
        .unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.subscription_status"),
        3
    );
    refused(acquire(&mut client, "s", 3, "w", "1 s"), "22023");
}

#[test]
fn a_worker_whose_partition_is_gone_has_lost_its_lease() {
    let (_database, mut client) = store(4);
    create(&mut client, "s", 3);
    let workers = [0, 1, 2].map(|number| Partition::acquire(&mut client, "s", number));
    for worker in workers {
        let page = worker.fetch(&mut client, 999).unwrap();
        worker.checkpoint(&mut client, page.next).unwrap();
    }
    client
        .batch_execute("SELECT mire.alter_subscription('s', partitions => 1)")
        .unwrap();
    for worker in workers {
        refused(worker.fetch(&mut client, 9), "MI003");
        refused(worker.checkpoint(&mut client, 24), "MI003");
        refused(worker.fails(&mut client, 24, "note"), "MI003");
        refused(worker.parked(&mut client, 9), "MI003");
        refused(worker.handled_parked(&mut client, "s-0", 24), "MI003");
        let ours = [&worker.number as _, &worker.fence as _];
        let enter = "SELECT mire.assert_subscription('s', $1, $2)";
        refused(client.query(enter, &ours), "MI003");
        let release = client.query_one("SELECT mire.release_subscription('s', $1, $2)", &ours);
        assert!(!release.unwrap().get::<_, bool>(0));
    }
    // Whoever asks for it anew learns that there is none, and no subscription can have one of that number.
    refused(acquire(&mut client, "s", 2, "w", "1 s"), "22023");
    let absurd = Partition {
        number: 1024,
        ..workers[0]
    };
    refused(absurd.fetch(&mut client, 9), "22023");
}
