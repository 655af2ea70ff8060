//! `CALL mire.wait_for_events(…)`: wakes when there is something to read and only then, and holds nothing while it
//! sleeps.

use std::time::{Duration, Instant};

use mire_cluster::{Cluster, shared};
use mire_tests::feed::Reader;
use mire_tests::session::{append, connect, events, value, wait_until};
use mire_tests::waiter::{AT_ONCE, LONG, Waiter, wait};
use postgres::Client;

#[test]
fn a_waiting_session_holds_no_snapshot_no_transaction_id_and_no_lock() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let waiter = Waiter::start(&database.url, 0, LONG);
    // It has to look at the catalog again after this.
    client
        .batch_execute("SET lock_timeout = '5s'; ALTER SEQUENCE mire.positions CACHE 1")
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut with_locks = 0;
    for _ in 0..100 {
        let row = client
            .query_one(
                "SELECT a.state, a.backend_xmin::text, a.backend_xid::text,
                        (SELECT count(*) FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype <> 'virtualxid') AS locks
                   FROM pg_stat_activity AS a WHERE a.pid = $1",
                &[&waiter.pid],
            )
            .unwrap();
        assert_eq!(row.get::<_, &str>("state"), "active");
        assert_eq!(row.get::<_, Option<&str>>("backend_xmin"), None);
        assert_eq!(row.get::<_, Option<&str>>("backend_xid"), None);
        with_locks += usize::from(row.get::<_, i64>("locks") > 0);
    }
    // It locks the sequence for the moment of looking at it; nobody who alters it waits for longer than that.
    assert!(with_locks < 50, "{with_locks} of 100 looks found a lock");
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(waiter.ends_at_once().unwrap(), 1);
}

/// Rows that were deleted while it slept can be vacuumed away: the point of holding no snapshot.
#[test]
fn a_waiting_session_does_not_hold_vacuum_back() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.url("mire");
    let mut client = connect(&url);
    client
        .batch_execute("CREATE TABLE t AS SELECT FROM generate_series(1, 1000)")
        .unwrap();
    let waiter = Waiter::start(&url, 0, LONG);
    client.batch_execute("DELETE FROM t").unwrap();
    client.batch_execute("VACUUM t").unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT pg_relation_size('t')"),
        0,
        "dead rows were kept"
    );
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(waiter.ends_at_once().unwrap(), 1);
}

#[test]
fn a_commit_wakes_every_waiter() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let waiters: Vec<Waiter> = (0..10)
        .map(|_| Waiter::start(&database.url, 0, LONG))
        .collect();
    client.batch_execute("BEGIN").unwrap();
    let position = append(&mut client, "a-1", &events(1), None)
        .unwrap()
        .position
        .unwrap();
    for waiter in &waiters {
        let early = waiter.answer.recv_timeout(Duration::from_millis(30));
        assert!(early.is_err(), "woken before the commit: {early:?}");
    }
    client.batch_execute("COMMIT").unwrap();
    for waiter in waiters {
        assert_eq!(waiter.ends_at_once().unwrap(), position);
    }
}

#[test]
fn what_is_there_already_is_not_waited_for() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "a-1", &events(7), None).unwrap();
    let begin = Instant::now();
    assert_eq!(wait(&mut client, 3, LONG).unwrap(), 7);
    assert!(begin.elapsed() < AT_ONCE);
}

#[test]
fn a_timeout_ends_the_wait_with_nothing_new() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "a-1", &events(2), None).unwrap();
    let begin = Instant::now();
    let time = Duration::from_millis(1200);
    assert_eq!(wait(&mut client, 2, time).unwrap(), 2);
    assert!(begin.elapsed() >= time && begin.elapsed() < time + AT_ONCE);
    assert_eq!(wait(&mut client, 2, Duration::ZERO).unwrap(), 2);
}

/// A consumer's loop for so long: how many waits returned before their timeout.
fn wakeups(client: &mut Client, reader: &mut Reader, time: Duration) -> usize {
    let end = Instant::now() + time;
    let mut wakeups = 0;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| left.as_millis() > 0)
    {
        let safe = wait(client, reader.after, left).unwrap();
        if Instant::now() < end {
            wakeups += 1;
            assert!(safe > reader.after, "woken with nothing to read");
            reader.read(client).unwrap();
        }
    }
    wakeups
}

/// There is nothing to read: neither once nor, worse, at every look.
#[test]
fn an_aborted_append_at_the_tail_wakes_nobody() {
    let database = shared().fresh_database().unwrap();
    let [mut writer, mut client] = [(); 2].map(|()| connect(&database.url));
    append(&mut writer, "a-1", &events(1), None).unwrap();
    let mut reader = Reader::new(100);
    let time = Duration::from_millis(700);
    assert_eq!(wakeups(&mut client, &mut reader, time), 1);
    abort(&mut writer);
    assert_eq!(wakeups(&mut client, &mut reader, time), 0);
    append(&mut writer, "a-1", &events(1), None).unwrap();
    assert_eq!(wakeups(&mut client, &mut reader, time), 1);
    assert_eq!((reader.after, reader.seen.len()), (7, 2));
}

fn abort(writer: &mut Client) {
    writer.batch_execute("BEGIN").unwrap();
    append(writer, "a-1", &events(5), None).unwrap();
    writer.batch_execute("ROLLBACK").unwrap();
}

/// To find out that an aborted append is no news it has to look at the log, once.
#[test]
fn after_an_aborted_append_a_waiting_session_sleeps_on_without_a_snapshot() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "a-1", &events(1), None).unwrap();
    let waiter = Waiter::start(&database.url, 1, LONG);
    for _ in 0..20 {
        abort(&mut client);
    }
    let idle = format!(
        "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity WHERE pid = {}",
        waiter.pid
    );
    wait_until("it holds no snapshot", || value(&mut client, &idle));
    for _ in 0..100 {
        assert!(
            value::<bool>(&mut client, &idle),
            "it takes snapshots all the time"
        );
    }
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(waiter.ends_at_once().unwrap(), 102);
}

/// The sequence has moved, the safe position has not: waking for the former would spin until the append ends.
#[test]
fn an_open_append_wakes_a_consumer_once_for_what_is_before_it() {
    let database = shared().fresh_database().unwrap();
    let [mut open, mut writer, mut client] = [(); 3].map(|()| connect(&database.url));
    append(&mut writer, "a-1", &events(2), None).unwrap();
    open.batch_execute("BEGIN").unwrap();
    append(&mut open, "a-2", &events(1), None).unwrap();
    append(&mut writer, "a-1", &events(1), None).unwrap();
    let mut reader = Reader::new(100);
    let time = Duration::from_millis(700);
    assert_eq!(wakeups(&mut client, &mut reader, time), 1);
    assert_eq!(reader.after, 2);
    open.batch_execute("COMMIT").unwrap();
    assert_eq!(wakeups(&mut client, &mut reader, time), 1);
    assert_eq!(reader.seen.len(), 4);
    assert_eq!(wakeups(&mut client, &mut reader, time), 0);
}
