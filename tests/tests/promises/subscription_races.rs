//! Subscriptions under calls that overlap: what one call has read may be old when it acts. Each test holds one session at
//! the worst moment with a lock, so that the order is always the same.

use mire_cluster::{Database, shared};
use mire_tests::session::{
    append, connect, events, pid, refused, value, wait_until, wait_until_blocked,
};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::Client;

fn store(count: usize) -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for stream in 0..4 {
        append(&mut client, &format!("s-{stream}"), &events(count), None).unwrap();
    }
    (database, client)
}

/// Two partitions that are through, where the next acquire makes it so many.
fn about_to_change(client: &mut Client, partitions: i32) -> [Partition<'static>; 2] {
    create(client, "s", 2);
    let parts = [0, 1].map(|p| Partition::acquire(client, "s", p));
    for part in parts {
        part.fetch(client, 1000).unwrap();
    }
    client
        .execute(
            "SELECT mire.alter_subscription('s', partitions => $1)",
            &[&partitions],
        )
        .unwrap();
    for part in parts {
        part.checkpoint(client, 4).unwrap();
    }
    parts
}

/// Holds a row in `holder` while `call` runs in a session of its own and `meanwhile` in the test's.
fn while_blocked<T: Send>(
    database: &Database<'_>,
    lock: &str,
    call: impl FnOnce(&mut Client) -> T + Send,
    meanwhile: impl FnOnce(),
) -> T {
    let mut holder = connect(&database.url);
    holder.batch_execute(&format!("BEGIN; {lock}")).unwrap();
    let mut caller = connect(&database.url);
    let caller_pid = pid(&mut caller);
    std::thread::scope(|scope| {
        let call = scope.spawn(move || call(&mut caller));
        wait_until_blocked(database, caller_pid);
        meanwhile();
        holder.batch_execute("COMMIT").unwrap();
        call.join().unwrap()
    })
}

#[test]
fn a_fetch_that_overlaps_alter_does_not_go_beyond_the_stop_position() {
    let (database, mut client) = store(2);
    create(&mut client, "s", 2);
    let held = Partition::acquire(&mut client, "s", 0);
    let mut admin = connect(&database.url);
    let admin_pid = pid(&mut admin);
    std::thread::scope(|scope| {
        let mut altered = None;
        let page = while_blocked(
            &database,
            "SELECT FROM mire.checkpoints FOR UPDATE",
            |client| held.fetch(client, 1000).unwrap(),
            || {
                let alter = scope.spawn(move || {
                    let alter = "SELECT mire.alter_subscription('s', partitions => 3)";
                    admin.execute(alter, &[]).unwrap()
                });
                // Either it is through already, or it waits.
                let state = format!("SELECT cardinality(pg_blocking_pids({admin_pid})) > 0");
                wait_until("alter is through or waits", || {
                    alter.is_finished() || value(&mut client, &state)
                });
                altered = Some(alter);
                append(&mut client, "s-0", &events(50), None).unwrap();
            },
        );
        altered.unwrap().join().unwrap();
        let stop: i64 = value(&mut client, "SELECT stop_position FROM mire.subscriptions");
        assert!(
            page.next <= stop,
            "handed out to {}, stop is {stop}",
            page.next
        );
    });
}

#[test]
fn a_heartbeat_does_not_wait_for_another_of_the_same_holder() {
    let (database, mut client) = store(2);
    create(&mut client, "s", 1);
    let fence = acquire(&mut client, "s", 0, "w", "3 seconds")
        .unwrap()
        .fence;
    let held = Partition {
        name: "s",
        number: 0,
        fence: fence.unwrap(),
    };
    let mut working = client.transaction().unwrap();
    let page = held.fetch(&mut working, 1000).unwrap();
    held.checkpoint(&mut working, page.next).unwrap();
    wait_until("a heartbeat is due", || {
        let due = "SELECT expires_at < clock_timestamp() + ttl * 0.6 FROM mire.leases";
        value(&mut working, due)
    });
    std::thread::scope(|scope| {
        // Has renewed the lease, and waits for the checkpoint.
        let mut ahead = connect(&database.url);
        let ahead_pid = pid(&mut ahead);
        let fetch = scope.spawn(move || held.fetch(&mut ahead, 1000).map(drop));
        wait_until_blocked(&database, ahead_pid);
        held.parked(&mut working, 5).unwrap();
        working.commit().unwrap();
        fetch.join().unwrap().unwrap();
    });
}

#[test]
fn a_reset_that_overlaps_the_change_of_partitions_resets_the_new_ones() {
    let (database, mut client) = store(1);
    about_to_change(&mut client, 3);
    let mut closer = connect(&database.url);
    let mut closing = closer.transaction().unwrap();
    acquire(&mut closing, "s", 0, "next", "1 min").unwrap();
    assert_eq!(
        value::<i32>(&mut closing, "SELECT generation FROM mire.subscriptions"),
        2
    );

    let mut admin = connect(&database.url);
    let admin_pid = pid(&mut admin);
    std::thread::scope(|scope| {
        let reset = scope.spawn(move || {
            admin
                .execute("SELECT mire.reset_subscription('s', 0)", &[])
                .unwrap()
        });
        wait_until_blocked(&database, admin_pid);
        closing.commit().unwrap();
        reset.join().unwrap();
    });
    let checkpoints: Vec<i64> = value(
        &mut client,
        "SELECT array_agg(checkpoint) FROM mire.subscription_status",
    );
    assert_eq!(checkpoints, [0, 0, 0]);
}

/// A worker that fetches and checkpoints in one transaction, and is too slow: its successor neither waits for it nor
/// deadlocks with it.
#[test]
fn acquiring_a_partition_does_not_wait_for_a_transaction_that_has_fetched() {
    let (database, mut client) = store(1);
    create(&mut client, "s", 1);
    let fence = acquire(&mut client, "s", 0, "slow", "300 ms")
        .unwrap()
        .fence;
    let slow = Partition {
        name: "s",
        number: 0,
        fence: fence.unwrap(),
    };
    let mut session = connect(&database.url);
    session
        .batch_execute("SET idle_in_transaction_session_timeout = 0")
        .unwrap();
    let mut open = session.transaction().unwrap();
    slow.fetch(&mut open, 1000).unwrap();
    let expired =
        "SELECT expires_at < clock_timestamp() FROM mire.leases WHERE resource LIKE '$sub%'";
    // Not idle, so that nothing ends it.
    wait_until("the lease has expired", || value(&mut open, expired));

    client.batch_execute("SET lock_timeout = '1 s'").unwrap();
    assert!(
        !acquire(&mut client, "s", 0, "next", "1 min")
            .unwrap()
            .acquired
    );
    refused(slow.checkpoint(&mut open, 1), "MI003");
    open.rollback().unwrap();
    assert!(
        acquire(&mut client, "s", 0, "next", "1 min")
            .unwrap()
            .acquired
    );
}

/// The transaction that has fetched holds the partition's row: were it not bounded, a stopped worker would keep its
/// partition for ever.
#[test]
fn a_worker_that_stalls_after_its_fetch_loses_the_partition_after_its_ttl() {
    shared()
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let (database, mut client) = store(1);
    create(&mut client, "s", 1);
    let fence = acquire(&mut client, "s", 0, "stalls", "500 ms")
        .unwrap()
        .fence;
    let stalls = Partition {
        name: "s",
        number: 0,
        fence: fence.unwrap(),
    };
    let mut session = connect(&database.url);
    let mut open = session.transaction().unwrap();
    stalls.fetch(&mut open, 1000).unwrap();
    client.batch_execute("SET lock_timeout = '100 ms'").unwrap();
    wait_until("the successor has the partition", || {
        acquire(&mut client, "s", 0, "next", "1 min").is_ok_and(|lease| lease.acquired)
    });
    assert!(stalls.checkpoint(&mut open, 1).is_err());
}

#[test]
fn the_change_of_partitions_and_a_worker_of_another_partition_do_not_deadlock() {
    let (database, mut client) = store(1);
    let parts = about_to_change(&mut client, 1);
    // As in the middle of a checkpoint: the lease is asserted, the row is not locked yet.
    let mut session = connect(&database.url);
    let mut other = session.transaction().unwrap();
    let assert = format!(
        "SELECT mire.assert_lease('$subscription/s/1/1', {})",
        parts[1].fence
    );
    other.batch_execute(&assert).unwrap();
    let mut closer = connect(&database.url);
    std::thread::scope(|scope| {
        let closing = scope.spawn(move || acquire(&mut closer, "s", 0, "next", "1 min").map(drop));
        let state =
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        wait_until("the closer is through or waits", || {
            closing.is_finished() || value(&mut client, state)
        });
        // Old generation or new one by now: either way an answer.
        if let Err(error) = parts[1].checkpoint(&mut other, 4) {
            let code = error.code().unwrap().code();
            assert!(["MI003", "22023"].contains(&code), "{error:?}");
        }
        other.rollback().unwrap();
        closing.join().unwrap().unwrap();
    });
}

/// Nobody has locked its partitions for the drop, and their workers lock them before the subscription: a deadlock.
#[test]
fn a_drop_that_finds_nothing_leaves_alone_what_is_made_in_the_same_moment() {
    let (database, mut client) = store(1);
    let mut maker = connect(&database.url);
    let mut making = maker.transaction().unwrap();
    // The drop may look, but not delete.
    making
        .batch_execute("LOCK TABLE mire.subscriptions IN SHARE MODE")
        .unwrap();
    let mut caller = connect(&database.url);
    let caller_pid = pid(&mut caller);
    std::thread::scope(|scope| {
        let call =
            scope.spawn(move || value::<bool>(&mut caller, "SELECT mire.drop_subscription('s')"));
        let blocked = format!("SELECT cardinality(pg_blocking_pids({caller_pid})) > 0");
        wait_until("it is through or waits", || {
            call.is_finished() || value(&mut client, &blocked)
        });
        making
            .batch_execute("SELECT mire.create_subscription('s')")
            .unwrap();
        making.commit().unwrap();
        assert!(!call.join().unwrap());
    });
    Partition::acquire(&mut client, "s", 0);
}

#[test]
fn acquire_that_overlaps_a_drop_says_that_there_is_no_such_subscription() {
    let (database, mut client) = store(1);
    create(&mut client, "s", 1);
    let mut admin = connect(&database.url);
    let mut dropping = admin.transaction().unwrap();
    dropping
        .batch_execute("SELECT mire.drop_subscription('s')")
        .unwrap();
    let mut caller = connect(&database.url);
    let caller_pid = pid(&mut caller);
    std::thread::scope(|scope| {
        let call = scope.spawn(move || acquire(&mut caller, "s", 0, "me", "1 min"));
        wait_until_blocked(&database, caller_pid);
        dropping.commit().unwrap();
        refused(call.join().unwrap(), "42704");
    });
    let left: i64 = value(&mut client, "SELECT count(*) FROM mire.leases");
    assert_eq!(left, 0, "no lease without a subscription");
}

#[test]
fn skipping_while_the_worker_is_at_it_gives_up_one_event_only() {
    let (_database, mut client) = store(0);
    append(&mut client, "p-1", &events(3), None).unwrap();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 1000).unwrap();
    worker.fails(&mut client, 1, "park").unwrap();
    worker.checkpoint(&mut client, 3).unwrap();
    let skip = "SELECT mire.skip_parked('s', 'p-1')";
    client.batch_execute(skip).unwrap();
    refused(client.simple_query(skip), "55000");
    let left = worker.parked(&mut client, 1000).unwrap();
    assert_eq!(left, [("p-1".into(), 2), ("p-1".into(), 3)]);
}

#[test]
fn what_was_handled_from_the_park_is_not_handed_out_again_after_a_crash() {
    let (_database, mut client) = store(0);
    append(&mut client, "p-1", &events(2), None).unwrap();
    append(&mut client, "q-1", &events(1), None).unwrap();
    append(&mut client, "p-1", &events(1), None).unwrap();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    assert_eq!(worker.fetch(&mut client, 1000).unwrap().next, 4);
    worker.fails(&mut client, 1, "park").unwrap();
    client
        .batch_execute("SELECT mire.retry_parked('s', 'p-1')")
        .unwrap();
    // It is not given them now, but it has them in hand.
    assert!(worker.parked(&mut client, 1000).unwrap().is_empty());
    for position in [1, 2, 4] {
        worker.handled_parked(&mut client, "p-1", position).unwrap();
    }
    // It dies before it has checkpointed what it has in hand.
    let next = Partition::acquire(&mut client, "s", 0);
    assert_eq!(next.fetch(&mut client, 1000).unwrap().positions(), [3]);
    next.checkpoint(&mut client, 4).unwrap();
    assert!(next.parked(&mut client, 1000).unwrap().is_empty());
    append(&mut client, "p-1", &events(1), None).unwrap();
    assert_eq!(next.fetch(&mut client, 1000).unwrap().positions(), [5]);
}
