//! Promise 3 under torture: the feed never skips and never reorders, whatever the writers do.
//!
//! The two negative tests run the same load against readers that do it wrong; were they not caught, the torture would
//! prove nothing.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mire_cluster::shared;
use mire_tests::feed::{Reader, assert_streams_are_contiguous};
use mire_tests::load::{CATEGORIES, Load, Outcome};
use mire_tests::session::{append, connect, events, pid, torture_time, value};
use mire_tests::stall::{Over, Stalls, stop_again_and_again};
use postgres::Client;

const WRITERS: usize = 12;

/// What "60 s or 100,000 transactions" ends with.
const TRANSACTIONS: u64 = 100_000;

#[test]
fn torture_of_the_feed_neither_skips_nor_reorders_anything() {
    let database = shared().fresh_database().unwrap();
    let mut superuser = connect(&database.url);
    let url = database.url.as_str();
    let done = AtomicBool::new(false);
    let time = torture_time(10, 60);

    let begin = Instant::now();
    let (outcome, readers, stalls) = std::thread::scope(|scope| {
        let impatient = scope.spawn(|| follow(url, Reader::new(7), &done, poll));
        let waiting = scope.spawn(|| follow(url, Reader::new(1000), &done, wait));
        let picky = scope.spawn(|| {
            let reader = Reader {
                categories: vec![CATEGORIES[1].to_owned(), CATEGORIES[3].to_owned()],
                ..Reader::new(50)
            };
            follow(url, reader, &done, poll)
        });
        let over = Over(&done);
        let load = Load::start(url, WRITERS, 1, false);
        let stalls = Stalls::begin(url, 1);
        while begin.elapsed() < time && load.transactions() < TRANSACTIONS {
            std::thread::sleep(Duration::from_millis(20));
        }
        let stalls = stalls.end();
        let outcome = load.stop();
        drop(over);
        let readers = [impatient, waiting, picky].map(|reader| reader.join().unwrap());
        (outcome, readers, stalls)
    });

    for reader in &readers {
        reader.assert_saw_everything(&mut superuser);
    }
    assert_streams_are_contiguous(&mut superuser);
    outcome.assert_kept(&mut superuser);
    report(&outcome, begin.elapsed(), &mut superuser);
    println!(
        "readers saw {:?} events; {stalls} times a process was stopped for some milliseconds",
        readers.each_ref().map(|reader| reader.seen.len())
    );
}

/// A reader is stopped at random instants. Meanwhile one append stays open and a later one commits: were the head read
/// after the locks, or the snapshot taken before them, the reader would go on past the open one.
#[test]
fn torture_of_a_reader_stopped_between_any_two_instructions_makes_it_skip_nothing() {
    let database = shared().fresh_database().unwrap();
    let [open, mut later, mut client, mut superuser] = [(); 4].map(|()| connect(&database.url));
    let open = RefCell::new(open);
    // The more locks the reader has to look through, the more often it is stopped just there.
    superuser
        .batch_execute("SELECT pg_advisory_lock(i) FROM generate_series(1, 4000) AS i")
        .unwrap();
    superuser.batch_execute(READER).unwrap();
    for session in [&mut *open.borrow_mut(), &mut later, &mut client] {
        // Thousands of rounds, and no crash: commits need not wait for the disk.
        session
            .batch_execute("SET mire.allow_async_commit = on; SET synchronous_commit = off")
            .unwrap();
    }
    let victim = pid(&mut client);
    let reads = "SELECT last_value FROM reads";
    let rounds = std::thread::scope(|scope| {
        let reader = scope.spawn(move || client.batch_execute("CALL read_until_the_end()"));
        let rounds = stop_again_and_again(
            victim,
            torture_time(8, 60),
            || {
                let mut open = open.borrow_mut();
                open.batch_execute("BEGIN").unwrap();
                append(&mut *open, "open-1", &events(1), None).unwrap();
                append(&mut later, "later-1", &events(1), None).unwrap();
            },
            || {
                let before: i64 = value(&mut superuser, reads);
                while value::<i64>(&mut superuser, reads) < before + 2 {
                    assert!(!reader.is_finished(), "the reader failed");
                }
                open.borrow_mut().batch_execute("COMMIT").unwrap();
            },
        );
        append(&mut later, "end-1", &events(1), None).unwrap();
        reader.join().unwrap().unwrap();
        rounds
    });
    let missing: i64 = value(
        &mut superuser,
        "SELECT count(*) FROM mire.events AS e LEFT JOIN seen AS s USING (position) WHERE s.position IS NULL",
    );
    println!(
        "stopped {rounds} times in {} reads; {missing} events skipped",
        value::<i64>(&mut superuser, reads)
    );
    assert_eq!(missing, 0);
}

/// A reader in a loop on the server, so that it is stopped within a read and not on the way to one.
const READER: &str = "
CREATE TABLE seen (position bigint PRIMARY KEY);
CREATE SEQUENCE reads;
CREATE PROCEDURE read_until_the_end() LANGUAGE plpgsql AS $$
DECLARE
  event record;
  after bigint := 0;
  over boolean := false;
BEGIN
  WHILE NOT over LOOP
    FOR event IN SELECT position, stream, next_position FROM mire.read_all(after, 100) LOOP
      after := event.next_position;
      over := over OR event.stream IS NOT DISTINCT FROM 'end-1';
      INSERT INTO seen SELECT event.position WHERE event.position IS NOT NULL;
    END LOOP;
    PERFORM nextval('reads');
    COMMIT;
  END LOOP;
END $$";

#[test]
fn torture_catches_a_reader_without_the_safe_position() {
    is_caught(
        "SELECT e.position FROM mire.events AS e WHERE e.position > $1 ORDER BY e.position LIMIT 500",
    );
}

/// One statement has one snapshot, and it is older than the safe position computed in it.
#[test]
fn torture_catches_a_reader_that_computes_the_safe_position_in_the_reading_statement() {
    is_caught(
        "SELECT e.position FROM mire.events AS e
          WHERE e.position > $1 AND e.position <= (SELECT mire.safe_position())
          ORDER BY e.position LIMIT 500",
    );
}

/// Runs the load against a wrong reader until it has skipped something; it usually takes less than a second.
fn is_caught(query: &str) {
    let database = shared().fresh_database().unwrap();
    let mut superuser = connect(&database.url);
    for round in 1..=20 {
        let load = Load::start(&database.url, WRITERS, round, false);
        let end = Instant::now() + Duration::from_secs(3);
        let mut after: i64 = value(
            &mut superuser,
            "SELECT coalesce(max(position), 0) FROM mire.events",
        );
        let first = after;
        let mut seen: Vec<i64> = Vec::new();
        while Instant::now() < end {
            for row in superuser.query(query, &[&after]).unwrap() {
                after = row.get(0);
                seen.push(after);
            }
        }
        let outcome = load.stop();
        // What committed later than the last look is not held against the reader.
        let table: Vec<i64> = superuser
            .query(
                "SELECT position FROM mire.events WHERE position > $1 AND position <= $2 ORDER BY position",
                &[&first, &after],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        let skipped = table
            .iter()
            .filter(|position| seen.binary_search(position).is_err());
        let skipped = skipped.count();
        println!(
            "round {round}: the wrong reader saw {} of {} events and skipped {skipped} ({} transactions)",
            seen.len(),
            table.len(),
            outcome.transactions()
        );
        if skipped > 0 {
            return;
        }
    }
    panic!("the wrong reader skipped nothing: this load cannot tell right from wrong");
}

/// Reads until the writers are done and there is nothing left.
fn follow(
    url: &str,
    mut reader: Reader,
    done: &AtomicBool,
    rest: fn(&Reader, &mut Client),
) -> Reader {
    let mut client = connect(url);
    loop {
        // Asked before the read, or the last events would be missed.
        let last_look = done.load(Ordering::Relaxed);
        if reader.read(&mut client).unwrap() == 0 {
            if last_look {
                return reader;
            }
            rest(&reader, &mut client);
        }
    }
}

fn poll(_: &Reader, _: &mut Client) {
    std::thread::sleep(Duration::from_millis(1));
}

fn wait(reader: &Reader, client: &mut Client) {
    reader.wait(client, Duration::from_millis(300)).unwrap();
}

fn report(outcome: &Outcome, time: Duration, superuser: &mut Client) {
    println!(
        "{WRITERS} writers, {} transactions in {time:.1?} ({} refused): {:?}",
        outcome.transactions(),
        outcome.refused,
        outcome.scenarios
    );
    println!(
        "{} events acknowledged, {} in the table, {} positions drawn",
        outcome.acknowledged.len(),
        value::<i64>(superuser, "SELECT count(*) FROM mire.events"),
        value::<i64>(superuser, "SELECT last_value FROM mire.positions"),
    );
}
