//! Promise 1 and the feed's memory: what was acknowledged is durable whatever the session's synchronous_commit says, and
//! a position that a reader has passed is never given to another event, crash or not.

use mire_cluster::{Cluster, shared};
use mire_tests::feed::Reader;
use mire_tests::saga;
use mire_tests::session::{append, connect, events, pid, refused, value, wait_until};
use mire_tests::subscription::{Partition, create};
use postgres::{Client, NoTls};

const LEVEL: &str = "SELECT current_setting('synchronous_commit')";

/// A cluster in which nothing reaches the disk that nobody has asked for: a lazy background writer hides lost writes.
fn lazy_cluster() -> Cluster {
    Cluster::builder()
        .setting("wal_writer_delay", "10s")
        .setting("bgwriter_delay", "10s")
        .setting("autovacuum", "off")
        .start()
        .unwrap()
}

fn aborted_append(client: &mut Client, size: usize) {
    client.batch_execute("BEGIN").unwrap();
    append(client, "aborted-1", &events(size), None).unwrap();
    client.batch_execute("ROLLBACK").unwrap();
}

/// Nothing makes an aborted append's positions durable by itself, so a reader may pass them only where something else does.
#[test]
fn a_position_that_a_reader_has_passed_is_not_given_to_another_event_after_a_crash() {
    let cluster = lazy_cluster();
    let url = cluster.url("mire");
    let mut reader = Reader::new(100);
    for round in 0..6 {
        let mut client = connect(&url);
        append(&mut client, "a-1", &events(1), None).unwrap();
        // More than nextval logs ahead.
        aborted_append(&mut client, 100);
        if round % 2 == 0 {
            append(&mut client, "a-2", &events(1), None).unwrap();
            aborted_append(&mut client, 100);
        }
        while reader.read(&mut client).unwrap() > 0 {}
        let told: i64 = client
            .query_one(
                "CALL mire.wait_for_events($1, '10 ms')",
                &[&(reader.after - 1)],
            )
            .unwrap()
            .get("safe_position");
        assert_eq!(told, reader.after);
        cluster.crash().unwrap();
        let mut client = connect(&url);
        let next = append(&mut client, "a-1", &events(1), None).unwrap();
        assert!(
            next.position.unwrap() > reader.after,
            "round {round}: a reader has passed {}, and then {next:?} was appended",
            reader.after
        );
        while reader.read(&mut client).unwrap() > 0 {}
        reader.assert_saw_everything(&mut client);
    }
    cluster.assert_clean_log(&[]);
}

#[test]
fn an_append_with_synchronous_commit_off_survives_a_crash() {
    let cluster = lazy_cluster();
    let url = cluster.url("mire");
    let mut reader = Reader::new(100);
    for version in 1..=4 {
        let mut client = connect(&url);
        client
            .batch_execute("SET synchronous_commit = off")
            .unwrap();
        let appended = append(&mut client, "a-1", &events(1), Some(version - 1)).unwrap();
        assert_eq!(appended.version, version);
        reader.read(&mut client).unwrap();
        cluster.crash().unwrap();
        let mut client = connect(&url);
        assert_eq!(
            value::<i64>(&mut client, "SELECT mire.stream_version('a-1')"),
            version
        );
        reader.assert_saw_everything(&mut client);
    }
}

#[test]
fn a_lease_acquired_with_synchronous_commit_off_survives_a_crash() {
    let cluster = lazy_cluster();
    let url = cluster.url("mire");
    let mut last = 0;
    for _ in 0..3 {
        let mut client = connect(&url);
        client
            .batch_execute("SET synchronous_commit = off")
            .unwrap();
        let acquire = "SELECT fence FROM mire.acquire_lease('r', 'h', '1 minute')";
        let fence: i64 = value(&mut client, acquire);
        assert!(fence > last, "{fence} was handed out after {last}");
        last = fence;
        cluster.crash().unwrap();
        let mut client = connect(&url);
        let stored: i64 = value(&mut client, "SELECT fence FROM mire.lease_status");
        assert_eq!(stored, fence);
    }
}

#[test]
fn append_and_lease_raise_synchronous_commit_for_their_transaction_only() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let calls = [
        r#"SELECT mire.append('a-1', '[{"type": "t", "data": 1}]')"#,
        "SELECT mire.append_events('a-1', '{t}', '{1}')",
        "SELECT mire.append_batch('{a-1}', NULL, '{1}', '{t}', '{1}')",
        "SELECT mire.acquire_lease('r', 'h', '1 minute')",
        "SELECT mire.new_epoch()",
        "SELECT mire.truncate_stream('a-1', 2)",
    ];
    for call in calls {
        for (asked, given) in [
            ("off", "on"),
            ("local", "on"),
            ("remote_write", "remote_write"),
            ("remote_apply", "remote_apply"),
        ] {
            let begin = format!("SET synchronous_commit = {asked}; BEGIN");
            client.batch_execute(&begin).unwrap();
            client.batch_execute(call).unwrap();
            assert_eq!(value::<String>(&mut client, LEVEL), given, "{call}");
            client.batch_execute("COMMIT").unwrap();
            assert_eq!(value::<String>(&mut client, LEVEL), asked, "{call}");
        }
    }
}

/// Whoever is told acts on it: a lease that goes on, a checkpoint, a retry's first answer, what became of a saga.
#[test]
fn what_workers_and_retries_are_told_is_durable_too() {
    let (_database, mut client) = saga::store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    let next = worker.fetch(&mut client, 9).unwrap().next;
    let fence = worker.fence;
    let lease: i64 = value(
        &mut client,
        "SELECT fence FROM mire.acquire_lease('r', 'h', '1 minute')",
    );
    let append = "SELECT mire.append_events('a-1', '{t}', '{1}', NULL, '{00000000-0000-0000-0000-000000000001}', 0)";
    let answer = r#"SELECT mire.saga_deliver(ARRAY['{"saga": "t", "instance": "1", "step": "a", "id": "x"}']::jsonb[])"#;
    client.batch_execute(append).unwrap();
    client.batch_execute(answer).unwrap();
    for call in [
        format!("SELECT mire.renew_lease('r', {lease}, '1 minute')"),
        format!("SELECT mire.checkpoint('s', 0, {fence}, {next})"),
        append.to_owned(),
        answer.to_owned(),
        "SELECT mire.saga_claim('me', '{t}', '{1}', 1, '1 minute')".to_owned(),
        "SELECT mire.saga_commit('{}', 'me', '1 minute')".to_owned(),
        "SELECT mire.outbox_claim('me', NULL, 1, '1 minute')".to_owned(),
        "SELECT mire.outbox_ack('{}')".to_owned(),
    ] {
        client
            .batch_execute("SET synchronous_commit = off; BEGIN")
            .unwrap();
        client.batch_execute(&call).unwrap();
        assert_eq!(value::<String>(&mut client, LEVEL), "on", "{call}");
        client.batch_execute("COMMIT").unwrap();
    }
}

#[test]
fn a_rolled_back_savepoint_does_not_take_durability_from_a_later_append() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("SET synchronous_commit = off; BEGIN; SAVEPOINT s")
        .unwrap();
    append(&mut client, "a-1", &events(1), None).unwrap();
    client.batch_execute("ROLLBACK TO s").unwrap();
    assert_eq!(value::<String>(&mut client, LEVEL), "off");
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(value::<String>(&mut client, LEVEL), "on");
    client.batch_execute("COMMIT").unwrap();
}

/// What counts is the value at commit.
#[test]
fn durability_cannot_be_lowered_again_between_append_and_commit() {
    let cluster = lazy_cluster();
    let url = cluster.url("mire");
    let mut client = connect(&url);
    client
        .batch_execute(
            r#"CREATE FUNCTION lax() RETURNS void LANGUAGE plpgsql SET synchronous_commit = off AS $$
               BEGIN PERFORM mire.append('a-1', '[{"type": "t", "data": 1}]'); END $$"#,
        )
        .unwrap();
    for (version, transaction) in [
        (
            1,
            r#"BEGIN; SELECT mire.append('a-1', '[{"type": "t", "data": 1}]'); SET LOCAL synchronous_commit = off; COMMIT"#,
        ),
        (2, "SELECT lax()"),
        (3, "BEGIN; SELECT lax(); COMMIT"),
    ] {
        let mut client = connect(&url);
        client
            .batch_execute("SET synchronous_commit = off")
            .unwrap();
        client.batch_execute(transaction).unwrap();
        cluster.crash().unwrap();
        let mut client = connect(&url);
        let kept: i64 = value(&mut client, "SELECT mire.stream_version('a-1')");
        assert_eq!(kept, version, "{transaction}");
    }
}

/// Whether it waits for a standby, which never comes.
fn waits_for_a_standby(
    observer: &mut Client,
    mut client: Client,
    sql: &'static str,
) -> (Client, bool) {
    let (worker, cancel) = (pid(&mut client), client.cancel_token());
    let waits = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {worker} AND wait_event = 'SyncRep')"
    );
    let work = std::thread::spawn(move || {
        client.batch_execute(sql).unwrap();
        client
    });
    let mut waiting = false;
    wait_until("it waits for a standby, or ends", || {
        waiting = value(observer, &waits);
        waiting || work.is_finished()
    });
    if waiting {
        cancel.cancel_query(NoTls).unwrap();
    }
    (work.join().unwrap(), waiting)
}

/// A flush is not all: whether a synchronous standby is awaited follows from the value at the end, too.
#[test]
fn a_standby_is_awaited_by_who_has_appended_whatever_is_set_afterwards_and_by_nobody_else() {
    let cluster = Cluster::builder()
        .setting("synchronous_commit", "local")
        .setting("synchronous_standby_names", "nobody")
        .start()
        .unwrap();
    let url = cluster.url("mire");
    let mut observer = connect(&url);
    for end in ["COMMIT", "PREPARE TRANSACTION 'p'"] {
        let mut client = connect(&url);
        client.batch_execute("BEGIN").unwrap();
        append(&mut client, "a-1", &events(1), None).unwrap();
        client
            .batch_execute("SET LOCAL synchronous_commit = off")
            .unwrap();
        let (client, waited) = waits_for_a_standby(&mut observer, client, end);
        assert!(waited, "{end}");
        let later = "CREATE TEMPORARY TABLE t (); SELECT pg_current_xact_id()";
        let (_, waited) = waits_for_a_standby(&mut observer, client, later);
        assert!(!waited, "after {end}");
    }
}

#[test]
fn a_setting_lifts_it_and_only_a_superuser_has_that_setting() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("SET synchronous_commit = off; SET mire.allow_async_commit = on; BEGIN")
        .unwrap();
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(value::<String>(&mut client, LEVEL), "off");
    client.batch_execute("COMMIT").unwrap();

    let writer = format!("{}_writer", database.name);
    database
        .sql(&format!(
            "CREATE ROLE {writer} LOGIN; SELECT mire.grant_access('{writer}', 'writer')"
        ))
        .unwrap();
    let url = database.url_as(&writer);
    let mut client = connect(&url);
    append(&mut client, "a-1", &events(1), None).unwrap();
    for setting in [
        "allow_async_commit = on",
        "idle_append_timeout = 0",
        "scan_budget = 1",
    ] {
        refused(
            client.batch_execute(&format!("SET mire.{setting}")),
            "42501",
        );
    }
    // Before the library is loaded, the settings are not known yet: whatever is said then must not stand either.
    for mut client in [
        connect(&format!(
            "{url}?options=-csynchronous_commit%3Doff%20-cmire.allow_async_commit%3Don"
        )),
        {
            let mut client = connect(&url);
            let early = client
                .batch_execute("SET synchronous_commit = off; SET mire.allow_async_commit = on");
            if early.is_err() {
                client
                    .batch_execute("SET synchronous_commit = off")
                    .unwrap();
            }
            client
        },
    ] {
        client.batch_execute("BEGIN").unwrap();
        append(&mut client, "a-1", &events(1), None).unwrap();
        assert_eq!(value::<String>(&mut client, LEVEL), "on");
        client.batch_execute("COMMIT").unwrap();
    }
}
