//! Promise 6 for holders that stop: a process paused past its ttl, inside of a transaction and between two of them, and
//! the fence as a token that is drawn under the row's lock.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use mire_cluster::{Database, shared};
use mire_tests::psql::{Psql, Signal};
use mire_tests::session::{connect, pid, torture_time, value, wait_until};
use mire_tests::stall::{Over, stop_again_and_again};
use postgres::Client;

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("CREATE TABLE work (by text); CREATE TABLE seen (what text)")
        .unwrap();
    (database, client)
}

fn acquire(client: &mut Client, holder: &str) -> Option<i64> {
    let acquire = format!("SELECT fence FROM mire.acquire_lease('r', '{holder}', '2 s')");
    value(client, &acquire)
}

fn count(client: &mut Client, table: &str) -> i64 {
    value(client, &format!("SELECT count(*) FROM {table}"))
}

/// What a holder does under its lease, as in a checkpoint: the assertion and the write in one transaction.
const HOLDERS_WORK: &str =
    "BEGIN; SELECT mire.assert_lease('r', :fence); INSERT INTO work VALUES ('paused');";

const ACQUIRE: &str = "SELECT fence FROM mire.acquire_lease('r', 'paused', '2 s') \\gset";

#[test]
fn a_holder_paused_inside_its_transaction_is_cut_off_after_its_ttl() {
    shared()
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let (database, mut client) = store();
    let mut paused = Psql::start(&database);
    paused.says(ACQUIRE);
    paused.says(HOLDERS_WORK);
    let idle = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'idle in transaction' AND query LIKE 'INSERT%'";
    wait_until("its transaction is open", || {
        value::<i64>(&mut client, idle) == 1
    });
    paused.signal(Signal::STOP);
    let begin = Instant::now();
    assert_eq!(acquire(&mut client, "successor"), None);
    wait_until("the successor gets the lease", || {
        acquire(&mut client, "successor").is_some()
    });
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "failover is bounded by the ttl"
    );
    paused.signal(Signal::CONT);
    paused.says("COMMIT;");
    paused.end();
    assert_eq!(count(&mut client, "work"), 0, "its write must be gone");
}

#[test]
fn a_holder_paused_between_transactions_cannot_write_when_it_wakes() {
    let (database, mut client) = store();
    let mut paused = Psql::start(&database);
    paused.says(ACQUIRE);
    paused.says("INSERT INTO seen VALUES ('acquired');");
    wait_until("it holds the lease", || count(&mut client, "seen") == 1);
    paused.signal(Signal::STOP);
    wait_until("the successor gets the lease", || {
        acquire(&mut client, "successor").is_some()
    });
    paused.signal(Signal::CONT);
    paused.says(HOLDERS_WORK);
    paused.says("COMMIT;");
    paused.says("INSERT INTO seen VALUES ('went on');");
    wait_until("it went on", || count(&mut client, "seen") == 2);
    paused.end();
    assert_eq!(count(&mut client, "work"), 0, "its write must be gone");
}

#[test]
fn the_fence_handed_out_is_the_one_stored_however_many_acquire_at_once() {
    let (database, mut client) = store();
    // The first of all makes the resource's row; it is not what is looked at here.
    acquire(&mut client, "same");
    let end = Instant::now() + torture_time(3, 20);
    let highest = AtomicI64::new(0);
    let fences: Vec<i64> = std::thread::scope(|scope| {
        let holders: Vec<_> = (0..16)
            .map(|number| {
                let (mut client, highest) = (connect(&database.url), &highest);
                scope.spawn(move || {
                    let mut fences = Vec::new();
                    while Instant::now() < end {
                        // One name for all of them, so that nearly every acquire supersedes somebody.
                        client.batch_execute("BEGIN").unwrap();
                        let fence = acquire(&mut client, "same");
                        if let Some(fence) = fence {
                            let stored = "SELECT fence FROM mire.lease_status";
                            assert_eq!(value::<i64>(&mut client, stored), fence);
                            // The row is ours until we commit: whoever comes later must get more.
                            let before = highest.fetch_max(fence, Ordering::SeqCst);
                            assert!(before < fence, "{number} got {fence} after {before}");
                            fences.push(fence);
                        }
                        client.batch_execute("COMMIT").unwrap();
                    }
                    fences
                })
            })
            .collect();
        holders
            .into_iter()
            .flat_map(|holder| holder.join().unwrap())
            .collect()
    });
    let different: HashSet<i64> = fences.iter().copied().collect();
    assert_eq!(
        different.len(),
        fences.len(),
        "a fence was handed out twice"
    );
    let stored: i64 = value(&mut client, "SELECT fence FROM mire.lease_status");
    assert_eq!(Some(stored), fences.iter().copied().max());
    println!("{} fences, all different and growing", fences.len());
}

/// Drawn before the row is locked, a lower fence could be stored over a higher one: whoever is stopped between the two
/// shows it.
#[test]
fn an_acquire_stopped_between_any_two_instructions_never_stores_a_lower_fence() {
    let (database, mut rival) = store();
    acquire(&mut rival, "same");
    rival
        .batch_execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN RAISE EXCEPTION '% over %', NEW.fence, OLD.fence; END $$;
             CREATE TRIGGER only_grows BEFORE UPDATE ON mire.leases FOR EACH ROW
               WHEN (NEW.fence < OLD.fence) EXECUTE FUNCTION refuse()",
        )
        .unwrap();
    let mut client = connect(&database.url);
    for session in [&mut client, &mut rival] {
        // No crash comes, and without waiting for the disk it is stopped more often where it matters.
        session
            .batch_execute("SET mire.allow_async_commit = on; SET synchronous_commit = off")
            .unwrap();
    }
    let victim = pid(&mut client);
    let done = AtomicBool::new(false);
    // In a loop on the server, so that it is stopped within an acquire and not on the way to one.
    let acquire_all_the_time = "DO $$ BEGIN
        FOR i IN 1..100 LOOP
          PERFORM mire.acquire_lease('r', 'same', '2 s');
          COMMIT;
        END LOOP;
      END $$";
    let (rounds, acquired) = std::thread::scope(|scope| {
        let over = Over(&done);
        let holder = scope.spawn(|| {
            let mut acquired = 0;
            while !done.load(Ordering::Relaxed) {
                client.batch_execute(acquire_all_the_time).unwrap();
                acquired += 100;
            }
            acquired
        });
        let rounds = stop_again_and_again(
            victim,
            torture_time(3, 20),
            || {
                acquire(&mut rival, "same");
            },
            || assert!(!holder.is_finished(), "the holder failed"),
        );
        drop(over);
        (rounds, holder.join().unwrap())
    });
    println!("stopped {rounds} times in {acquired} acquires");
}
