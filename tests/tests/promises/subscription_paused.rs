//! Item 2: a worker whose process was stopped and which wakes after it was replaced cannot change the read model. The
//! worker is a psql of its own, stopped with SIGSTOP.

use mire_cluster::{Database, shared};
use mire_tests::psql::{Psql, Signal};
use mire_tests::session::{append, connect, events, value, wait_until};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::Client;

const ACQUIRE: &str = "SELECT fence FROM mire.acquire_subscription('s', 0, 'paused', '1 s') \\gset
  SELECT max(next_position) AS next FROM mire.fetch_events('s', 0, :fence) \\gset
  INSERT INTO signs VALUES ('has fetched');";

const WORK: &str = "BEGIN;
  INSERT INTO model SELECT 'paused', position FROM generate_series(1, :next) AS position;
  SELECT mire.checkpoint('s', 0, :fence, :next);
  COMMIT;";

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute(
            "CREATE TABLE model (by text, position bigint PRIMARY KEY); CREATE TABLE signs (sign text)",
        )
        .unwrap();
    append(&mut client, "s-1", &events(5), None).unwrap();
    create(&mut client, "s", 1);
    (database, client)
}

fn sign(client: &mut Client, sign: &str) -> bool {
    value(
        client,
        &format!("SELECT EXISTS (SELECT FROM signs WHERE sign = '{sign}')"),
    )
}

/// Takes over as soon as the lease lets it, and handles the first events.
fn replace(client: &mut Client, handled: i64) {
    let mut fence = None;
    wait_until("the successor has the partition", || {
        fence = acquire(client, "s", 0, "successor", "1 min").unwrap().fence;
        fence.is_some()
    });
    let successor = Partition {
        name: "s",
        number: 0,
        fence: fence.unwrap(),
    };
    let mut transaction = client.transaction().unwrap();
    let page = successor.fetch(&mut transaction, 3).unwrap();
    for position in page.positions() {
        transaction
            .execute("INSERT INTO model VALUES ('successor', $1)", &[&position])
            .unwrap();
    }
    successor.checkpoint(&mut transaction, handled).unwrap();
    transaction.commit().unwrap();
}

fn by_whom(client: &mut Client) -> String {
    value(
        client,
        "SELECT string_agg(by || ' ' || position, ', ' ORDER BY position) FROM model",
    )
}

#[test]
fn a_worker_that_wakes_after_it_was_replaced_is_refused_by_the_database() {
    let (database, mut client) = store();
    let mut paused = Psql::start(&database);
    paused.says(ACQUIRE);
    wait_until("it has fetched", || sign(&mut client, "has fetched"));
    paused.signal(Signal::STOP);
    replace(&mut client, 3);
    paused.signal(Signal::CONT);
    // Only what the successor has not handled yet: nothing but the fence could refuse it.
    paused.says(&WORK.replace("(1, :next)", "(4, :next)"));
    paused.says("INSERT INTO signs VALUES ('went on');");
    wait_until("it went on", || sign(&mut client, "went on"));
    let complaints = paused.complaints();
    assert!(complaints.contains("ERROR:  MI003"), "{complaints}");
    assert_eq!(
        by_whom(&mut client),
        "successor 1, successor 2, successor 3"
    );
    println!("the database refused it: {complaints}");
}

#[test]
fn a_worker_stopped_in_the_middle_of_its_transaction_is_cut_off_and_leaves_nothing() {
    shared()
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let (database, mut client) = store();
    let mut paused = Psql::start(&database);
    paused.says("SELECT fence FROM mire.acquire_subscription('s', 0, 'paused', '1 s') \\gset");
    paused.says(
        "BEGIN; SELECT max(next_position) AS next FROM mire.fetch_events('s', 0, :fence) \\gset",
    );
    paused.says("INSERT INTO model SELECT 'paused', p FROM generate_series(1, :next) AS p;");
    let idle = "SELECT count(*) > 0 FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE 'INSERT INTO model%'";
    wait_until("it is in the middle", || value(&mut client, idle));
    paused.signal(Signal::STOP);
    replace(&mut client, 3);
    paused.signal(Signal::CONT);
    paused.says("SELECT mire.checkpoint('s', 0, :fence, :next); COMMIT;");
    let complaints = paused.complaints();
    assert!(complaints.contains("25P03"), "{complaints}");
    assert_eq!(
        by_whom(&mut client),
        "successor 1, successor 2, successor 3"
    );
}
