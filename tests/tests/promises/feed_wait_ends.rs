//! `CALL mire.wait_for_events(…)` ends at once when it is told to, and refuses where it cannot do what it promises.

use std::sync::mpsc::channel;
use std::time::Duration;

use mire_cluster::{Cluster, PoolMode, shared};
use mire_tests::session::{append, connect, events, refused, value, wait_until};
use mire_tests::waiter::{AT_ONCE, LONG, Waiter, wait};
use postgres::NoTls;

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
