//! `CALL mire.wait_for_events(…)`: wakes when there is something to read and only then, holds nothing while it sleeps,
//! and ends at once when it is told to.

#![allow(clippy::unwrap_used)]

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mire_cluster::{Cluster, PoolMode, shared};
use mire_tests::feed::Reader;
use mire_tests::session::{append, connect, events, pid, refused, value, wait_until};
use postgres::{Client, Error, NoTls};

/// Generous for a busy machine, and far below the timeouts of the waits that must end earlier.
const AT_ONCE: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(60);

/// A session that waits in a thread of its own.
struct Waiter {
    pid: i32,
    cancel: postgres::CancelToken,
    answer: Receiver<(Result<i64, Error>, Duration)>,
}

impl Waiter {
    /// Returns when the server is in the wait.
    fn start(url: &str, after: i64, timeout: Duration) -> Self {
        let mut client = connect(url);
        let (pid, cancel) = (pid(&mut client), client.cancel_token());
        let (sender, answer) = channel();
        std::thread::spawn(move || {
            let begin = Instant::now();
            let result = wait(&mut client, after, timeout);
            sender.send((result, begin.elapsed()))
        });
        let waiter = Self {
            pid,
            cancel,
            answer,
        };
        let mut observer = connect(url);
        let waits = format!(
            "SELECT coalesce((SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = {pid}), false)"
        );
        wait_until("it waits", || value(&mut observer, &waits));
        waiter
    }

    /// What it answered, if it did so at once.
    #[track_caller]
    fn ends_at_once(self) -> Result<i64, Error> {
        let (result, _) = self
            .answer
            .recv_timeout(AT_ONCE)
            .expect("still waiting after 5 s");
        result
    }
}

/// Waits, and gives the safe position.
fn wait(client: &mut Client, after: i64, timeout: Duration) -> Result<i64, Error> {
    client
        .query_one(
            "CALL mire.wait_for_events($1, make_interval(secs => $2))",
            &[&after, &timeout.as_secs_f64()],
        )
        .map(|row| row.get("safe_position"))
}

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

#[test]
fn a_cancel_ends_the_wait_and_leaves_the_session_usable() {
    let database = shared().fresh_database().unwrap();
    let waiter = Waiter::start(&database.url, 0, LONG);
    waiter.cancel.cancel_query(NoTls).unwrap();
    refused(waiter.ends_at_once(), "57014");

    let mut client = connect(&database.url);
    client
        .batch_execute("SET statement_timeout = '100ms'")
        .unwrap();
    refused(wait(&mut client, 0, LONG), "57014");
    client.batch_execute("RESET statement_timeout").unwrap();
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(wait(&mut client, 0, LONG).unwrap(), 1);
}

#[test]
fn terminating_the_session_ends_the_wait() {
    shared()
        .expect_in_log("terminating connection due to administrator command")
        .unwrap();
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let waiter = Waiter::start(&database.url, 0, LONG);
    let terminate = format!("SELECT pg_terminate_backend({}, 5000)", waiter.pid);
    assert!(value::<bool>(&mut client, &terminate), "it does not go");
    assert!(waiter.ends_at_once().is_err());
}

#[test]
fn the_death_of_the_postmaster_ends_the_wait() {
    let cluster = Cluster::start().unwrap();
    let waiter = Waiter::start(&cluster.url("mire"), 0, LONG);
    let postmaster = i32::try_from(cluster.pid().unwrap()).unwrap();
    // Only the postmaster: its children must notice by themselves.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(postmaster).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let backend = format!("/proc/{}", waiter.pid);
    assert!(waiter.ends_at_once().is_err());
    wait_until("the backend is gone", || {
        !std::path::Path::new(&backend).exists()
    });
    cluster.kill().unwrap();
}

#[test]
fn inside_a_transaction_block_or_a_function_it_is_refused() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let call = "CALL mire.wait_for_events(0, '1 s')";
    client.batch_execute("BEGIN").unwrap();
    refused(client.batch_execute(call), "25001");
    client
        .batch_execute("ROLLBACK; BEGIN; SAVEPOINT s")
        .unwrap();
    refused(client.batch_execute(call), "25001");
    client.batch_execute("ROLLBACK").unwrap();
    refused(client.batch_execute(&format!("SELECT 1; {call}")), "25001");
    client
        .batch_execute(
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$
               DECLARE safe bigint; epoch bigint;
               BEGIN CALL mire.wait_for_events(0, '1 s', safe, epoch); END $$",
        )
        .unwrap();
    refused(client.batch_execute("SELECT f()"), "25001");
}

#[test]
fn bad_arguments_are_refused() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for arguments in [
        "-1, '1 s'",
        "NULL, '1 s'",
        "0, NULL",
        "0, '-1 s'",
        "0, '25 hours'",
        "0, '1000000 years'",
    ] {
        let call = format!("CALL mire.wait_for_events({arguments})");
        refused(client.batch_execute(&call), "22023");
    }
}

#[test]
fn a_reader_may_wait_and_a_stranger_may_not() {
    let database = shared().fresh_database().unwrap();
    let [reader, stranger] = ["reader", "stranger"].map(|name| format!("{}_{name}", database.name));
    database
        .sql(&format!(
            "CREATE ROLE {reader} LOGIN; CREATE ROLE {stranger} LOGIN; SELECT mire.grant_access('{reader}', 'reader')"
        ))
        .unwrap();
    let mut client = connect(&database.url_as(&reader));
    assert_eq!(wait(&mut client, 0, Duration::ZERO).unwrap(), 0);
    let mut client = connect(&database.url_as(&stranger));
    refused(wait(&mut client, 0, Duration::ZERO), "42501");
}

#[test]
fn through_a_transaction_pooler_it_works_and_wakes() {
    let database = shared().fresh_database().unwrap();
    let bouncer = shared().pgbouncer(PoolMode::Transaction).unwrap();
    let url = bouncer.url(&database.name);
    let (sender, answer) = channel();
    std::thread::spawn(move || {
        let mut client = connect(&url);
        let call = "CALL mire.wait_for_events(0, '1 minute')";
        sender.send(client.simple_query(call).map(|answer| answer.len()))
    });
    let mut client = connect(&database.url);
    wait_until("it waits", || {
        value(
            &mut client,
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                             WHERE datname = current_database() AND wait_event_type = 'Extension')",
        )
    });
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert!(answer.recv_timeout(AT_ONCE).unwrap().is_ok());
}
