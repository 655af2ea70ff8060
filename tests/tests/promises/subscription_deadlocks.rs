//! Whatever calls of subscriptions overlap, none deadlocks with another, and each answers or refuses as documented.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, pid, torture_time, wait_until_blocked};
use mire_tests::subscription::{Partition, acquire, create};
use postgres::{Client, Error};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Lost, unknown, out of range, defined otherwise, under way. No 40P01, no 55P03 and nothing internal.
const DOCUMENTED: [&str; 6] = ["", "MI003", "42704", "22023", "42710", "55000"];

/// One call as a worker or an operator makes it, sometimes several in one transaction, on one of two subscriptions.
fn call(
    client: &mut Client,
    random: &mut StdRng,
    fences: &mut BTreeMap<(usize, i32), i64>,
) -> Result<(), Error> {
    let which = random.random_range(0..2);
    let (name, number) = (["s", "s/1"][which], random.random_range(0..4));
    let fence = fences.get(&(which, number)).copied().unwrap_or(1);
    let mine = Partition {
        name,
        number,
        fence,
    };
    let statement = |client: &mut Client, sql: &str| client.execute(sql, &[&name]).map(drop);
    match random.random_range(0..30) {
        0..=4 => {
            let holder = format!("w{}", random.random_range(0..3));
            let lease = acquire(client, name, number, &holder, "50 ms")?;
            if let Some(fence) = lease.fence {
                fences.insert((which, number), fence);
            }
            Ok(())
        }
        5..=9 => mine.fetch(client, 20).map(drop),
        10..=17 => {
            let mut transaction = client.transaction()?;
            let page = mine.fetch(&mut transaction, 20)?;
            if let Some(event) = page
                .events
                .first()
                .filter(|_| random.random_range(0..3) == 0)
            {
                mine.fails(
                    &mut transaction,
                    event.position,
                    ["note", "stop", "park", "park"][random.random_range(0..4)],
                )?;
            }
            mine.checkpoint(&mut transaction, page.next)?;
            for (stream, position) in mine.parked(&mut transaction, 5)? {
                mine.handled_parked(&mut transaction, &stream, position)?;
            }
            transaction.commit()
        }
        18 => client
            .execute(
                "SELECT count(*) FROM mire.attend_subscriptions('{s/1,s}', 'w', '50 ms',
                   ARRAY['$subscription/s/1/0', '$subscription/s/1/1/0'], ARRAY[$1::bigint, $1])",
                &[&fence],
            )
            .map(drop),
        19 => client
            .execute(
                "SELECT mire.release_subscription($1, $2, $3)",
                &[&name, &number, &fence],
            )
            .map(drop),
        20..=22 => client
            .execute(
                "SELECT mire.alter_subscription($1, partitions => $2)",
                &[&name, &random.random_range(1..4)],
            )
            .map(drop),
        23 => statement(client, "SELECT mire.reset_subscription($1, 0)"),
        24 => statement(client, "SELECT mire.drop_subscription($1)"),
        25 | 26 => statement(
            client,
            "SELECT mire.create_subscription($1, partitions => 2)",
        ),
        27 => statement(client, "SELECT mire.resume_subscription($1)"),
        28 => statement(
            client,
            "SELECT mire.retry_parked($1, e.stream) FROM mire.subscription_errors AS e WHERE e.name = $1 AND NOT e.retry LIMIT 1",
        ),
        _ => append(
            client,
            &format!("s-{}", random.random_range(0..9)),
            &events(2),
            None,
        )
        .map(drop),
    }
}

#[test]
fn torture_of_everything_at_once_never_deadlocks() {
    let database = shared().fresh_database().unwrap();
    let answers = Mutex::new(BTreeMap::<String, u64>::new());
    let end = Instant::now() + torture_time(6, 120);
    std::thread::scope(|scope| {
        for seed in 0..10 {
            let (url, answers) = (&database.url, &answers);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed);
                let mut client = connect(url);
                // So that a deadlock is seen as one before anything else gives up.
                client
                    .batch_execute("SET deadlock_timeout = '20 ms'")
                    .unwrap();
                let mut fences = BTreeMap::new();
                while Instant::now() < end {
                    let code = match call(&mut client, &mut random, &mut fences) {
                        Ok(()) => String::new(),
                        Err(error) => {
                            let said = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
                            assert!(DOCUMENTED.contains(&said.code().code()), "{said:?}");
                            said.code().code().to_owned()
                        }
                    };
                    *answers.lock().unwrap().entry(code).or_default() += 1;
                }
            });
        }
    });
    println!("answers by SQLSTATE: {:?}", answers.lock().unwrap());
}

/// A worker that closes the generation meets an operator who alters the subscription: both want every checkpoint's row and the
/// definition's.
#[test]
fn closing_a_generation_and_altering_do_not_deadlock() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    create(&mut client, "s", 2);
    append(&mut client, "s-1", &events(1), None).unwrap();
    let mine = [0, 1].map(|number| Partition::acquire(&mut client, "s", number));
    let alter = "SELECT mire.alter_subscription('s', partitions => 3)";
    client.batch_execute(alter).unwrap();
    for mine in mine {
        let page = mine.fetch(&mut client, 20).unwrap();
        mine.checkpoint(&mut client, page.next).unwrap();
    }
    let (mut operator, mut worker) = (connect(&database.url), connect(&database.url));
    operator
        .batch_execute("SET deadlock_timeout = '20 ms'")
        .unwrap();
    let (operators, workers) = (pid(&mut operator), pid(&mut worker));
    let mut holder = client.transaction().unwrap();
    holder
        .execute(
            "SELECT FROM mire.checkpoints WHERE partition = 0 FOR UPDATE",
            &[],
        )
        .unwrap();
    std::thread::scope(|scope| {
        let operator = scope.spawn(move || operator.batch_execute(alter));
        wait_until_blocked(&database, operators);
        let worker = scope.spawn(move || acquire(&mut worker, "s", 0, "v", "1 min"));
        wait_until_blocked(&database, workers);
        holder.commit().unwrap();
        operator.join().unwrap().unwrap();
        worker.join().unwrap().unwrap();
    });
}
