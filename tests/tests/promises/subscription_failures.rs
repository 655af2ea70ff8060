//! Item 6: one bad event parks its stream, other streams go on, an operator retries or skips it, and order holds. A new
//! epoch, a dump, and waiting for a checkpoint.

use std::time::{Duration, Instant};

use mire_cluster::{Cluster, Database, shared};
use mire_tests::session::{append, connect, events, pid, refused, value, wait_until};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::Client;

/// Two streams, their events in turn: bad-1 has the odd positions, good-1 the even ones.
fn store(partitions: i32) -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    fill(&mut client, 4);
    create(&mut client, "s", partitions);
    (database, client)
}

fn fill(client: &mut Client, times: usize) {
    for _ in 0..times {
        append(client, "bad-1", &events(1), None).unwrap();
        append(client, "good-1", &events(1), None).unwrap();
    }
}

fn bad(positions: &[i64]) -> Vec<(String, i64)> {
    positions.iter().map(|p| ("bad-1".to_owned(), *p)).collect()
}

fn decide(client: &mut Client, what: &str) {
    client
        .batch_execute(&format!("SELECT mire.{what}_parked('s', 'bad-1')"))
        .unwrap();
}

fn errors(client: &mut Client) -> Vec<(i64, i32, bool)> {
    client
        .query(
            "SELECT position, attempts, retry FROM mire.subscription_errors",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[test]
fn a_parked_stream_is_held_back_and_the_others_go_on() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 4).unwrap();
    worker.fails(&mut client, 3, "park").unwrap();
    worker.checkpoint(&mut client, 4).unwrap();
    fill(&mut client, 1);
    let page = worker.fetch(&mut client, 99).unwrap();
    assert_eq!((page.positions(), page.next), (vec![6, 8, 10], 10));
    worker.checkpoint(&mut client, 10).unwrap();
    assert!(
        worker.parked(&mut client, 99).unwrap().is_empty(),
        "nobody has decided yet"
    );
    assert_eq!(errors(&mut client), [(3, 1, false)]);

    decide(&mut client, "retry");
    assert_eq!(worker.parked(&mut client, 2).unwrap(), bad(&[3, 5]));
    for position in [3, 5, 7, 9] {
        assert_eq!(worker.parked(&mut client, 1).unwrap(), bad(&[position]));
        worker
            .handled_parked(&mut client, "bad-1", position)
            .unwrap();
    }
    assert_eq!(errors(&mut client), []);
    fill(&mut client, 1);
    assert_eq!(worker.fetch(&mut client, 99).unwrap().positions(), [11, 12]);
}

/// What is left out is looked at within the scan budget: were it counted as handed out, pages would be short or empty.
#[test]
fn the_events_of_a_parked_stream_take_no_room_in_a_page() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 1).unwrap();
    worker.fails(&mut client, 1, "park").unwrap();
    worker.checkpoint(&mut client, 1).unwrap();
    append(&mut client, "bad-1", &events(20), None).unwrap();
    append(&mut client, "good-1", &events(1), None).unwrap();
    let page = worker.fetch(&mut client, 5).unwrap();
    assert_eq!(page.positions(), [2, 4, 6, 8, 29]);
}

#[test]
fn skipping_gives_one_event_up_and_keeps_the_order_of_the_rest() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 99).unwrap();
    worker.fails(&mut client, 3, "park").unwrap();
    worker.checkpoint(&mut client, 8).unwrap();
    decide(&mut client, "skip");
    fill(&mut client, 1);
    // Later ones wait behind those that are being retried, also the ones that come meanwhile.
    assert_eq!(worker.fetch(&mut client, 99).unwrap().positions(), [10]);
    worker.checkpoint(&mut client, 10).unwrap();
    assert_eq!(worker.parked(&mut client, 99).unwrap(), bad(&[5, 7, 9]));
}

/// A page that was fetched before the stream was parked holds its later events: a worker that asks for the parked ones in the
/// middle of it would handle those first and then these once more.
#[test]
fn parked_events_come_when_nothing_else_is_in_hand() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 4).unwrap();
    worker.fetch_after(&mut client, 4, Some(4)).unwrap();
    worker.checkpoint(&mut client, 2).unwrap();
    worker.fails(&mut client, 3, "park").unwrap();
    decide(&mut client, "retry");
    for position in [2, 4, 6] {
        worker.checkpoint(&mut client, position).unwrap();
        assert_eq!(worker.parked(&mut client, 99).unwrap(), []);
    }
    // All in one transaction, as a worker may do it.
    let mut transaction = client.transaction().unwrap();
    worker.checkpoint(&mut transaction, 8).unwrap();
    assert_eq!(
        worker.parked(&mut transaction, 99).unwrap(),
        bad(&[3, 5, 7])
    );
    transaction.commit().unwrap();
    worker.handled_parked(&mut client, "bad-1", 7).unwrap();
    assert_eq!(errors(&mut client), []);
}

#[test]
fn a_stream_that_fails_again_while_it_is_retried_is_parked_again() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 99).unwrap();
    worker.fails(&mut client, 1, "park").unwrap();
    // Later ones of the stream that it has in hand fail as well; the first one counts.
    worker.fails(&mut client, 3, "park").unwrap();
    worker.checkpoint(&mut client, 8).unwrap();
    assert_eq!(errors(&mut client), [(1, 1, false)]);
    decide(&mut client, "retry");
    worker.handled_parked(&mut client, "bad-1", 1).unwrap();
    worker.fails(&mut client, 3, "park").unwrap();
    assert_eq!(errors(&mut client), [(3, 2, false)]);
    assert!(worker.parked(&mut client, 99).unwrap().is_empty());
    refused(worker.handled_parked(&mut client, "bad-1", 3), "42704");
    decide(&mut client, "skip");
    assert_eq!(worker.parked(&mut client, 99).unwrap(), bad(&[5, 7]));
    refused(worker.handled_parked(&mut client, "bad-1", 3), "22023");
    refused(worker.handled_parked(&mut client, "bad-1", 9), "22023");
    worker.handled_parked(&mut client, "bad-1", 7).unwrap();
    assert_eq!(errors(&mut client), []);
}

#[test]
fn what_is_handled_already_or_another_partitions_is_not_parked() {
    let (_database, mut client) = store(2);
    let workers = [0, 1].map(|p| Partition::acquire(&mut client, "s", p));
    let (ours, theirs) = {
        let mut pages = workers.map(|worker| worker.fetch(&mut client, 99).unwrap());
        pages.sort_by_key(|page| page.events[0].position);
        let odd = value::<i64>(
            &mut client,
            "SELECT stream_no % 2 FROM mire.stream_heads WHERE stream = 'bad-1'",
        );
        (
            workers[usize::try_from(odd).unwrap()],
            workers[usize::try_from(1 - odd).unwrap()],
        )
    };
    refused(theirs.fails(&mut client, 1, "park"), "22023");
    ours.checkpoint(&mut client, 4).unwrap();
    refused(ours.fails(&mut client, 3, "park"), "22023");
    refused(ours.fails(&mut client, 9, "park"), "22023");
    ours.fails(&mut client, 3, "note").unwrap();
    ours.fails(&mut client, 5, "park").unwrap();
    assert_eq!(errors(&mut client), [(5, 1, false)]);
}

#[test]
fn stopping_pauses_and_noting_only_tells() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 99).unwrap();
    let status = "SELECT concat_ws(' ', paused, last_error, failed_at IS NULL) FROM mire.subscription_status";
    worker.fails(&mut client, 1, "note").unwrap();
    assert_eq!(value::<String>(&mut client, status), "f it broke f");
    worker.fails(&mut client, 1, "stop").unwrap();
    assert_eq!(value::<String>(&mut client, status), "t it broke f");
    assert!(worker.fetch(&mut client, 99).unwrap().events.is_empty());
    worker.checkpoint(&mut client, 1).unwrap();
    assert_eq!(value::<String>(&mut client, status), "t t");
}

#[test]
fn parked_streams_stay_parked_over_a_change_of_partitions() {
    let (_database, mut client) = store(1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 99).unwrap();
    worker.fails(&mut client, 3, "park").unwrap();
    client
        .batch_execute("SELECT mire.alter_subscription('s', partitions => 3)")
        .unwrap();
    worker.checkpoint(&mut client, 8).unwrap();
    refused(worker.fetch(&mut client, 99), "MI003");
    fill(&mut client, 1);
    let number: i32 = value(
        &mut client,
        "SELECT (stream_no % 3)::integer FROM mire.stream_heads WHERE stream = 'bad-1'",
    );
    Partition::acquire(&mut client, "s", 0);
    decide(&mut client, "retry");
    for partition in 0..3 {
        let worker = Partition::acquire(&mut client, "s", partition);
        let page = worker.fetch(&mut client, 99).unwrap();
        assert!(!page.positions().contains(&9));
        worker.checkpoint(&mut client, page.next).unwrap();
        let parked = worker.parked(&mut client, 99).unwrap();
        if partition == number {
            assert_eq!(parked, bad(&[3, 5, 7, 9]));
            worker.handled_parked(&mut client, "bad-1", 9).unwrap();
        } else {
            assert!(parked.is_empty());
            refused(worker.handled_parked(&mut client, "bad-1", 9), "42704");
        }
    }
    assert_eq!(errors(&mut client), []);
}

#[test]
fn a_new_epoch_ends_the_fences_and_is_told_until_it_is_confirmed() {
    let (_database, mut client) = store(1);
    let before = acquire(&mut client, "s", 0, "w", "1 min").unwrap();
    let worker = Partition {
        name: "s",
        number: 0,
        fence: before.fence.unwrap(),
    };
    worker.fetch(&mut client, 99).unwrap();
    let epoch: i64 = value(&mut client, "SELECT mire.new_epoch()");
    refused(worker.checkpoint(&mut client, 8), "MI003");
    let after = acquire(&mut client, "s", 0, "other", "1 min").unwrap();
    assert!(after.acquired && after.fence > before.fence);
    assert_eq!(after.epoch, before.epoch);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.confirm_epoch('s')"),
        epoch
    );
    assert_eq!(
        acquire(&mut client, "s", 0, "other", "1 min")
            .unwrap()
            .epoch,
        epoch
    );
    refused(
        client.simple_query("SELECT mire.confirm_epoch('none')"),
        "42704",
    );
}

#[test]
fn waiting_returns_when_the_streams_partition_has_handled_the_position() {
    let (database, mut client) = store(2);
    let number: i32 = value(
        &mut client,
        "SELECT (stream_no % 2)::integer FROM mire.stream_heads WHERE stream = 'bad-1'",
    );
    let mut waiter = connect(&database.url);
    let waiter_pid = pid(&mut waiter);
    let worker = Partition::acquire(&mut client, "s", number);
    worker.fetch(&mut client, 99).unwrap();
    let waited = std::thread::spawn(move || {
        let begin = Instant::now();
        let call = "CALL mire.wait_for_checkpoint('s', 7, '20 s', 'bad-1')";
        let reached: i64 = value(&mut waiter, call);
        (reached, begin.elapsed())
    });
    // Looks take a snapshot for a moment each; between them there is none.
    let state = format!(
        "SELECT backend_xmin IS NULL AND wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {waiter_pid}"
    );
    wait_until("it sleeps without a snapshot", || {
        value::<Option<bool>>(&mut client, &state) == Some(true)
    });
    worker.checkpoint(&mut client, 6).unwrap();
    let begin = Instant::now();
    worker.checkpoint(&mut client, 8).unwrap();
    let (reached, _) = waited.join().unwrap();
    assert_eq!(reached, 8);
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );

    // The other partition has handled nothing: the slowest counts, and the timeout raises nothing.
    let slowest = "CALL mire.wait_for_checkpoint('s', 7, '50 ms')";
    assert_eq!(value::<i64>(&mut client, slowest), 0);
    let mut open = client.transaction().unwrap();
    refused(open.simple_query(slowest), "25001");
    open.rollback().unwrap();
    refused(
        client.simple_query("CALL mire.wait_for_checkpoint('none', 7, '1 s')"),
        "42704",
    );
    refused(
        client.simple_query("CALL mire.wait_for_checkpoint(NULL, 7, '1 s')"),
        "42704",
    );
    for wrong in [
        "'s', -1, '1 s'",
        "'s', NULL, '1 s'",
        "'s', 1, '-1 s'",
        "'s', 1, '2 days'",
        "'s', 1, NULL",
    ] {
        refused(
            client.simple_query(&format!("CALL mire.wait_for_checkpoint({wrong})")),
            "22023",
        );
    }
}

#[test]
fn a_dump_carries_subscriptions_and_consumers_go_on_where_they_were() {
    let source = Cluster::start().unwrap();
    let mut client = connect(&source.url("mire"));
    fill(&mut client, 4);
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    worker.fetch(&mut client, 99).unwrap();
    worker.fails(&mut client, 5, "park").unwrap();
    worker.checkpoint(&mut client, 6).unwrap();
    let dump = source.command("pg_dump").output().unwrap();
    assert!(dump.status.success(), "{dump:?}");
    let file = source.folder().join("dump.sql");
    std::fs::write(&file, dump.stdout).unwrap();
    source
        .sql(
            "postgres",
            "CREATE DATABASE copy TEMPLATE template0 ENCODING 'UTF8'",
        )
        .unwrap();
    let mut psql = source.command("psql");
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "copy", "-f"])
        .arg(&file);
    let restored = psql.output().unwrap();
    assert!(restored.status.success(), "{restored:?}");

    let mut copy = connect(&source.url("copy"));
    let lease = acquire(&mut copy, "s", 0, "worker", "1 min").unwrap();
    assert_eq!((lease.acquired, lease.checkpoint), (true, 6));
    assert!(lease.fence > Some(worker.fence));
    let worker = Partition {
        fence: lease.fence.unwrap(),
        ..worker
    };
    assert_eq!(worker.fetch(&mut copy, 99).unwrap().positions(), [8]);
    assert_eq!(errors(&mut copy), [(5, 1, false)]);
    worker.checkpoint(&mut copy, 8).unwrap();
    decide(&mut copy, "retry");
    assert_eq!(worker.parked(&mut copy, 99).unwrap(), bad(&[5, 7]));
    let same = "SELECT mire.create_subscription('s')";
    assert!(!value::<bool>(&mut copy, same));
}
