//! Promise 1 under fire: kill -9 of the postmaster and of backends in the middle of the load. Every acknowledged append
//! is there, versions have no gap, no position that a reader has seen is given to another event, fences still grow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mire_cluster::Cluster;
use mire_tests::feed::{Reader, assert_streams_are_contiguous};
use mire_tests::load::Load;
use mire_tests::session::{connect, torture_time, value, wait_until};
use mire_tests::stall::Over;
use postgres::{Client, Error, NoTls};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

const WRITERS: usize = 10;

/// How the server is hit, in turns.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// The postmaster and all its children at the same time: a power cut, as far as the processes go.
    Everybody,
    /// The postmaster alone; its children have to notice.
    Postmaster,
    /// One backend in the middle of an append; the postmaster resets all others.
    Backend,
}

const BLOWS: [Blow; 3] = [Blow::Everybody, Blow::Backend, Blow::Postmaster];

#[test]
fn crashes_in_the_middle_of_the_load_lose_nothing_acknowledged_and_reuse_no_position() {
    // Seconds stand for blows here: about 6 in an ordinary run, 24 in a long one.
    let blows = usize::try_from(torture_time(6, 24).as_secs()).unwrap();
    let cluster = Cluster::start().unwrap();
    cluster
        .expect_in_log("was terminated by signal 9: Killed")
        .unwrap();
    let url = cluster.url("mire");
    let done = AtomicBool::new(false);
    let begin = Instant::now();

    let (outcome, readers, fences) = std::thread::scope(|scope| {
        let over = Over(&done);
        let polling = scope.spawn(|| follow(&url, Reader::new(20), &done, false));
        let waiting = scope.spawn(|| follow(&url, Reader::new(500), &done, true));
        let holder = scope.spawn(|| acquire_leases(&url, &done));
        let load = Load::start(&url, WRITERS, 7, true);
        let mut rng = StdRng::seed_from_u64(7);
        for number in 0..blows {
            std::thread::sleep(Duration::from_millis(rng.random_range(200..700)));
            strike(&cluster, BLOWS[number % BLOWS.len()]);
            let before = load.transactions();
            wait_until("the load goes on", || load.transactions() > before + 20);
        }
        let outcome = load.stop();
        drop(over);
        (
            outcome,
            [polling, waiting].map(|reader| reader.join().unwrap()),
            holder.join().unwrap(),
        )
    });

    let mut client = connect(&url);
    outcome.assert_kept(&mut client);
    assert_streams_are_contiguous(&mut client);
    for reader in &readers {
        reader.assert_saw_everything(&mut client);
    }
    let fence: i64 = value(&mut client, ACQUIRE);
    assert!(
        fence > *fences.last().unwrap(),
        "fences have stopped growing"
    );
    cluster.assert_clean_log(&[]);
    assert!(!cluster.log().contains("PANIC"));
    println!(
        "{blows} blows in {:.1?}: {} transactions ended ({} unknown, {} refused), {} events acknowledged and all there, \
         readers saw {:?} events, {} fences",
        begin.elapsed(),
        outcome.transactions(),
        outcome.unknown,
        outcome.refused,
        outcome.acknowledged.len(),
        readers.each_ref().map(|reader| reader.seen.len()),
        fences.len(),
    );
}

fn strike(cluster: &Cluster, blow: Blow) {
    match blow {
        Blow::Everybody => cluster.crash().unwrap(),
        Blow::Postmaster => {
            kill(i32::try_from(cluster.pid().unwrap()).unwrap());
            // The children have this long to do harm on their own.
            std::thread::sleep(Duration::from_millis(50));
            cluster.crash().unwrap();
        }
        Blow::Backend => {
            let mut client = connect(&cluster.url("mire"));
            let appending = "SELECT pid FROM pg_stat_activity
                              WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() AND datname = 'mire'
                              ORDER BY random() LIMIT 1";
            wait_until("somebody appends", || {
                let victim = client.query_opt(appending, &[]).unwrap();
                victim.as_ref().inspect(|row| kill(row.get(0))).is_some()
            });
            wait_until("the server has noticed", || {
                client.batch_execute("SELECT 1").is_err()
            });
            wait_until("the server is back", || {
                Client::connect(&cluster.url("mire"), NoTls).is_ok()
            });
        }
    }
}

fn kill(pid: i32) {
    // That it has just ended by itself is as good.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// A reader that connects again whenever it must, and keeps a bigint over it.
fn follow(url: &str, mut reader: Reader, done: &AtomicBool, wait: bool) -> Reader {
    let mut look = |client: &mut Client| -> Result<bool, Error> {
        let last_look = done.load(Ordering::Relaxed);
        if reader.read(client)? > 0 {
            return Ok(false);
        }
        if wait && !last_look {
            reader.wait(client, Duration::from_millis(200))?;
        }
        Ok(last_look)
    };
    with_a_connection(url, &mut look);
    reader
}

const ACQUIRE: &str = "SELECT fence FROM mire.acquire_lease('r', 'holder', '1 minute')";

/// Fences that were handed out, in order.
fn acquire_leases(url: &str, done: &AtomicBool) -> Vec<i64> {
    let mut fences = vec![0];
    with_a_connection(url, &mut |client| {
        let fence: i64 = client.query_one(ACQUIRE, &[])?.get(0);
        let last = *fences.last().unwrap();
        assert!(fence > last, "fence {fence} was handed out after {last}");
        fences.push(fence);
        Ok(done.load(Ordering::Relaxed))
    });
    fences
}

/// Repeats a step until it says that it was the last, on as many connections as that takes.
fn with_a_connection(url: &str, step: &mut dyn FnMut(&mut Client) -> Result<bool, Error>) {
    loop {
        let Ok(mut client) = Client::connect(url, NoTls) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        loop {
            match step(&mut client) {
                Ok(true) => return,
                Ok(false) => (),
                Err(error) => {
                    let code = error.code().map(postgres::error::SqlState::code);
                    assert!(
                        client.is_closed() || matches!(code, None | Some("57P01" | "57P02")),
                        "{error:?}"
                    );
                    break;
                }
            }
        }
    }
}
