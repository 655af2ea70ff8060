//! A number of partitions that changes under load, while workers crash, overlap, dawdle and park, loses and doubles nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mire_cluster::shared;
use mire_tests::load::Load;
use mire_tests::session::{append, connect, events, torture_time, value};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::{Client, Error};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The read model refuses what is doubled (a primary key) or out of order (a version that is not the next one).
const MODEL: &str = "
  CREATE TABLE handled (position bigint PRIMARY KEY, stream text NOT NULL, version bigint NOT NULL);
  CREATE TABLE latest (stream text PRIMARY KEY, version bigint NOT NULL);
  CREATE FUNCTION handle(at bigint, of_stream text, to_version bigint) RETURNS void LANGUAGE plpgsql AS $$
  BEGIN
    INSERT INTO handled VALUES (at, of_stream, to_version);
    INSERT INTO latest AS l VALUES (of_stream, to_version) ON CONFLICT (stream) DO UPDATE
      SET version = excluded.version WHERE l.version = excluded.version - 1;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM latest AS l WHERE l.stream = of_stream AND l.version = to_version) THEN
      RAISE EXCEPTION 'stream % jumps to version %', of_stream, to_version;
    END IF;
  END $$;
";

#[derive(Default)]
struct Counts {
    pages: AtomicU64,
    crashes: AtomicU64,
    refused: AtomicU64,
    cut_off: AtomicU64,
    parked: AtomicU64,
    retried: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a worker may be refused with when it was replaced, and when it asks for a partition that does not exist (any more);
/// anything else is a bug.
const LOST: &str = "MI003";
const NONE: &str = "22023";

/// A worker that takes any partition, and overlaps, crashes, dawdles past its ttl and parks at random.
struct Worker<'a> {
    url: &'a str,
    name: String,
    random: StdRng,
    client: Client,
    counts: &'a Counts,
}

impl Worker<'_> {
    fn run(&mut self, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            let number = self.random.random_range(0..9);
            let ttl = ["200 ms", "2 s"][self.random.random_range(0..2)];
            match acquire(&mut self.client, "s", number, &self.name, ttl) {
                Ok(lease) if lease.acquired => {
                    let mine = Partition {
                        name: "s",
                        number,
                        fence: lease.fence.unwrap(),
                    };
                    let result = self.work(mine);
                    self.judge(result, LOST);
                }
                Ok(_) => {}
                Err(error) => self.judge(Err(error), NONE),
            }
        }
    }

    #[track_caller]
    fn judge(&mut self, result: Result<(), Error>, code: &str) {
        let Err(error) = result else { return };
        // It dawdled in its transaction.
        if error.is_closed() || error.code().is_some_and(|code| code.code() == "25P03") {
            self.client = connect(self.url);
            add(&self.counts.cut_off);
            return;
        }
        let said = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!(said.code().code(), code, "{said:?}");
        add(&self.counts.refused);
    }

    fn work(&mut self, mine: Partition<'_>) -> Result<(), Error> {
        for _ in 0..self.random.random_range(1..12) {
            // In hand from streams that it has parked itself.
            let mut skip = BTreeSet::new();
            let dice = self.random.random_range(0..100);
            let count = self.random.random_range(1..60);
            let mut transaction = self.client.transaction()?;
            let mut page = mine.fetch(&mut transaction, count)?;
            // Half of the time fetch and checkpoint are two transactions, and a page may be two.
            if dice % 2 == 0 {
                transaction.commit()?;
                if dice % 4 == 0 {
                    let more = mine.fetch_after(&mut self.client, count, Some(page.next))?;
                    page.events.extend(more.events);
                    page.next = more.next;
                }
                transaction = self.client.transaction()?;
            }
            if dice == 1 {
                std::thread::sleep(Duration::from_millis(300));
            }
            for event in &page.events {
                if skip.contains(&event.stream) {
                    continue;
                }
                if dice < 8 && event.position % 7 == 0 {
                    mine.fails(&mut transaction, event.position, "park")?;
                    skip.insert(event.stream.clone());
                    add(&self.counts.parked);
                    continue;
                }
                transaction.execute(
                    "SELECT handle($1, $2, $3)",
                    &[&event.position, &event.stream, &event.version],
                )?;
            }
            if dice != 9 {
                mine.checkpoint(&mut transaction, page.next)?;
            }
            if dice > 95 {
                // Gone before the commit; the server notices when it notices.
                drop(transaction);
                self.client = connect(self.url);
                add(&self.counts.crashes);
                return Ok(());
            }
            if dice == 9 {
                transaction.rollback()?;
                continue;
            }
            transaction.commit()?;
            add(&self.counts.pages);
            self.retry(mine)?;
        }
        Ok(())
    }

    fn retry(&mut self, mine: Partition<'_>) -> Result<(), Error> {
        let mut transaction = self.client.transaction()?;
        let rows = transaction.query(
            "SELECT stream, position, version FROM mire.fetch_parked($1, $2, $3, 5)",
            &[&mine.name, &mine.number, &mine.fence],
        )?;
        for row in rows {
            let (stream, position, version): (String, i64, i64) =
                (row.get(0), row.get(1), row.get(2));
            transaction.execute("SELECT handle($1, $2, $3)", &[&position, &stream, &version])?;
            mine.handled_parked(&mut transaction, &stream, position)?;
            add(&self.counts.retried);
        }
        transaction.commit()
    }
}

/// Changes the number of partitions up and down, pauses, resumes, and has parked streams retried.
fn operate(url: &str, done: &AtomicBool) -> u64 {
    let mut client = connect(url);
    let mut random = StdRng::seed_from_u64(7);
    let mut changes = 0;
    while !done.load(Ordering::Relaxed) {
        let partitions: i32 = random.random_range(1..9);
        let alter = "SELECT mire.alter_subscription('s', partitions => $1)";
        match client.execute(alter, &[&partitions]) {
            Ok(_) => changes += 1,
            Err(error) => assert_eq!(error.code().unwrap().code(), "55000", "{error:?}"),
        }
        if random.random_range(0..10) == 0 {
            client
                .batch_execute("SELECT mire.pause_subscription('s')")
                .unwrap();
            client
                .batch_execute("SELECT mire.resume_subscription('s')")
                .unwrap();
        }
        release_parked(&mut client);
        std::thread::sleep(Duration::from_millis(random.random_range(1..60)));
    }
    changes
}

fn release_parked(client: &mut Client) {
    for row in client
        .query(
            "SELECT stream FROM mire.subscription_errors WHERE NOT retry",
            &[],
        )
        .unwrap()
    {
        let stream: String = row.get(0);
        if let Err(error) = client.execute("SELECT mire.retry_parked('s', $1)", &[&stream]) {
            assert_eq!(error.code().unwrap().code(), "42704", "{error:?}");
        }
    }
}

#[test]
fn torture_of_changing_partitions_loses_and_doubles_nothing() {
    shared()
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client.batch_execute(MODEL).unwrap();
    create(&mut client, "s", 3);
    let (done, counts, url) = (
        AtomicBool::new(false),
        Counts::default(),
        database.url.as_str(),
    );
    let changes = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|number| {
                let mut worker = Worker {
                    url,
                    name: format!("w{number}"),
                    random: StdRng::seed_from_u64(number),
                    client: connect(url),
                    counts: &counts,
                };
                let done = &done;
                scope.spawn(move || {
                    let _over = Over(done);
                    worker.run(done);
                })
            })
            .collect();
        let operator = scope.spawn(|| {
            let _over = Over(&done);
            operate(url, &done)
        });
        let load = Load::start(url, 3, 1, false);
        let end = Instant::now() + torture_time(6, 120);
        while Instant::now() < end && !done.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = load.stop();
        done.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        operator.join().unwrap()
    });
    finish(&mut client);

    let wrong = "SELECT count(*) FROM handled AS h
                   FULL JOIN (SELECT e.position, s.stream, e.version FROM mire.events AS e JOIN mire.stream_heads AS s USING (stream_no)) AS e
                     USING (position)
                  WHERE h.position IS NULL OR e.position IS NULL OR (h.stream, h.version) <> (e.stream, e.version)";
    assert_eq!(value::<i64>(&mut client, wrong), 0, "lost, or never there");
    let total: i64 = value(&mut client, "SELECT count(*) FROM handled");
    println!(
        "{total} events, {changes} changes of partitions to generation {}; pages {:?}, crashes {:?}, cut off {:?}, refused {:?}, parked {:?}, retried {:?}",
        value::<i32>(&mut client, "SELECT generation FROM mire.subscriptions"),
        counts.pages,
        counts.crashes,
        counts.cut_off,
        counts.refused,
        counts.parked,
        counts.retried,
    );
    assert!(total > 100 && changes > 3);
}

/// Ends the others when one of them fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One last, orderly worker for every partition, until nothing is left to do.
fn finish(client: &mut Client) {
    let end = Instant::now() + Duration::from_secs(60);
    // The load rolls back at the tail, too.
    append(client, "last-1", &events(1), None).unwrap();
    let left = "SELECT (SELECT sum(events_behind) FROM mire.subscription_status) > 0
                    OR EXISTS (SELECT FROM mire.subscription_errors)";
    while value(client, left) {
        assert!(Instant::now() < end, "does not come to an end");
        release_parked(client);
        let partitions: i32 = value(client, "SELECT partitions FROM mire.subscriptions");
        for number in 0..partitions {
            let Ok(lease) = acquire(client, "s", number, "last", "1 min") else {
                continue;
            };
            let Some(fence) = lease.fence else { continue };
            let mine = Partition {
                name: "s",
                number,
                fence,
            };
            let mut transaction = client.transaction().unwrap();
            // The generation may change under it.
            let Ok(page) = mine.fetch(&mut transaction, 1000) else {
                continue;
            };
            for event in &page.events {
                let handle = "SELECT handle($1, $2, $3)";
                transaction
                    .execute(handle, &[&event.position, &event.stream, &event.version])
                    .unwrap();
            }
            match mine.checkpoint(&mut transaction, page.next) {
                Ok(()) => transaction.commit().unwrap(),
                Err(_) => continue,
            }
            let mut transaction = client.transaction().unwrap();
            let Ok(rows) = transaction.query(
                "SELECT stream, position, version FROM mire.fetch_parked('s', $1, $2, 100000)",
                &[&number, &fence],
            ) else {
                continue;
            };
            for row in rows {
                let (stream, position, version): (String, i64, i64) =
                    (row.get(0), row.get(1), row.get(2));
                transaction
                    .execute("SELECT handle($1, $2, $3)", &[&position, &stream, &version])
                    .unwrap();
                mine.handled_parked(&mut transaction, &stream, position)
                    .unwrap();
            }
            transaction.commit().unwrap();
        }
    }
}
