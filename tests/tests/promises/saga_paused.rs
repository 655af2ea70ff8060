//! A worker whose process was stopped past its lease and which wakes after it was replaced cannot commit. The worker is a
//! psql of its own, stopped with SIGSTOP.

use mire_cluster::{Database, shared};
use mire_tests::psql::{Psql, Signal};
use mire_tests::saga::{change, claim, commit, start, started, words};
use mire_tests::session::{connect, value, wait_until};
use postgres::Client;
use serde_json::json;

const CLAIM: &str = "SELECT fence, version FROM mire.saga_claim('paused', '{t}', '{1}', 1, '1 s') WHERE saga IS NOT NULL \\gset
  INSERT INTO signs VALUES ('has claimed');";

const COMMIT: &str = "SELECT outcome, reason FROM mire.saga_commit(ARRAY[jsonb_build_object('saga', 't', 'instance', '1',
    'version', :version, 'fence', :fence, 'status', 'running', 'facts', '[{\"fact\": \"abandoned\", \"step\": \"a\"}]'::jsonb)], 'paused', '1 s');";

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("CREATE TABLE signs (sign text)")
        .unwrap();
    start(&mut client, &[started("1", &json!({}))]);
    (database, client)
}

fn paused(database: &Database<'_>, client: &mut Client) -> Psql {
    let mut worker = Psql::start(database);
    worker.says(CLAIM);
    wait_until("it has claimed", || {
        value(client, "SELECT EXISTS (SELECT FROM signs)")
    });
    worker.signal(Signal::STOP);
    worker
}

#[test]
fn a_worker_that_wakes_past_its_lease_cannot_commit_even_if_nobody_took_over() {
    let (database, mut client) = store();
    let mut worker = paused(&database, &mut client);
    wait_until("its lease has run out", || {
        value(
            &mut client,
            "SELECT lease_expires_at < clock_timestamp() FROM mire.sagas",
        )
    });
    worker.signal(Signal::CONT);
    worker.says(COMMIT);
    assert_eq!(worker.printed(), "lease_lost|expired or released\n");
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('$saga:t-1')"),
        1
    );
}

#[test]
fn a_worker_that_wakes_after_it_was_replaced_cannot_commit() {
    let (database, mut client) = store();
    let mut worker = paused(&database, &mut client);
    let mut successor = Vec::new();
    wait_until("the successor has it", || {
        successor = claim(&mut client, "successor", 1, "1 min").0;
        !successor.is_empty()
    });
    worker.signal(Signal::CONT);
    // Nothing has been committed since: the version is the same, and only the fence can tell.
    worker.says(COMMIT);
    let printed = worker.printed();
    assert!(
        printed.starts_with("lease_lost|superseded by fence"),
        "{printed}"
    );
    let fence = successor[0].fence;
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 1, Some(fence), &json!({}))]
        )),
        ["committed"]
    );
    println!("the database refused it: {printed}");
}

/// In the middle of its transaction it holds the row as well: nobody can even look until the server has cut it off.
#[test]
fn a_worker_stopped_in_the_middle_of_its_transaction_gives_way_after_its_ttl() {
    shared()
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let (database, mut client) = store();
    let mut worker = Psql::start(&database);
    worker.says("BEGIN; SELECT fence, version FROM mire.saga_claim('paused', '{t}', '{1}', 1, '1 s') WHERE saga IS NOT NULL \\gset");
    let idle = "SELECT count(*) > 0 FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE '%saga_claim%'";
    wait_until("it is in the middle", || value(&mut client, idle));
    worker.signal(Signal::STOP);
    let mut successor = Vec::new();
    wait_until("the successor has it", || {
        successor = claim(&mut client, "successor", 1, "1 min").0;
        !successor.is_empty()
    });
    worker.signal(Signal::CONT);
    // At once: it leaves as soon as the first statement finds the connection gone.
    worker.says(&format!("{COMMIT}\nCOMMIT;"));
    assert_eq!(worker.printed(), "");
    let fence = successor[0].fence;
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 1, Some(fence), &json!({}))]
        )),
        ["committed"]
    );
}
