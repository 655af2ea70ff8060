//! Replicas in processes of their own, killed, stopped past their time to live and resumed, cut off from a database that
//! crashes: the read models equal the fold of the log all the same.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mire_client::testing::Cluster;
use mire_client::{
    Batch, BatchHandler, BoxError, EventStore, Handler, Incoming, NewEvent, Plain,
    ProjectionRunner, Raw, Subscription, Transaction, Transactional, TransactionalHandler,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::common::{exactly, session};

const REPLICAS: usize = 4;
const PARTITIONS: u32 = 8;
const STREAMS: usize = 40;
const WRITERS: usize = 4;
const TTL: Duration = Duration::from_secs(2);
/// Tells a replica's process where its database is.
const URL: &str = "MIRE_CHAOS_URL";

const TABLES: &str = "
    CREATE TABLE one_by_one (stream text PRIMARY KEY, events bigint NOT NULL, cents bigint NOT NULL);
    CREATE TABLE by_the_page (LIKE one_by_one INCLUDING ALL);
    CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, stream text NOT NULL, version bigint NOT NULL, process integer NOT NULL)";

#[derive(serde::Deserialize)]
struct Deposit {
    number: i64,
}

struct OneByOne;

impl TransactionalHandler for OneByOne {
    type Event = Raw;

    async fn handle(
        &self,
        event: &Incoming<'_, Raw>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let sql = "INSERT INTO one_by_one VALUES ($1, 1, $2)
            ON CONFLICT (stream) DO UPDATE SET events = one_by_one.events + 1, cents = one_by_one.cents + $2";
        let cents = event.recorded.data_as::<Deposit>()?.number;
        tx.sql()
            .execute(sql, &[&event.recorded.stream, &cents])
            .await?;
        Ok(())
    }
}

struct ByThePage;

impl BatchHandler for ByThePage {
    type Event = Raw;

    async fn handle(
        &self,
        events: &[Incoming<'_, Raw>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        let (mut streams, mut cents) = (Vec::new(), Vec::new());
        for event in events {
            streams.push(event.recorded.stream.as_str());
            cents.push(event.recorded.data_as::<Deposit>()?.number);
        }
        let sql = "INSERT INTO by_the_page SELECT s, count(*), sum(c) FROM unnest($1::text[], $2::bigint[]) AS u (s, c) GROUP BY s ORDER BY s
            ON CONFLICT (stream) DO UPDATE SET events = by_the_page.events + excluded.events, cents = by_the_page.cents + excluded.cents";
        tx.sql().execute(sql, &[&streams, &cents]).await?;
        Ok(())
    }
}

/// Notes what it sees, in a commit of its own.
struct Notes(EventStore);

impl Handler for Notes {
    type Event = Raw;

    async fn handle(&self, event: &Incoming<'_, Raw>) -> Result<(), BoxError> {
        let sql = "INSERT INTO seen (stream, version, process) VALUES ($1, $2, $3)";
        let process = i32::try_from(std::process::id()).unwrap();
        let client = self.0.pool().get().await?;
        client
            .execute(
                sql,
                &[&event.recorded.stream, &event.recorded.version, &process],
            )
            .await?;
        Ok(())
    }
}

/// What a replica's process does: it is this test program, started again by the test below.
#[test]
#[ignore = "a part of the chaos test, which starts it"]
fn replica_process() {
    let Ok(url) = std::env::var(URL) else { return };
    // Not even a stopped one outlives the test.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = EventStore::builder()
            .url(url)
            .pool_size(12)
            .build()
            .unwrap();
        let runner = loop {
            let definition = |name: &str| {
                Subscription::new(name)
                    .categories(["account"])
                    .partitions(PARTITIONS)
            };
            let runner = ProjectionRunner::builder(store.clone())
                .subscribe(definition("one_by_one"), Transactional(OneByOne))
                .subscribe(definition("by_the_page"), Batch(ByThePage))
                .subscribe(definition("notes"), Plain(Notes(store.clone())))
                .ttl(TTL)
                .recheck(Duration::from_millis(300))
                .spawn()
                .await;
            match runner {
                Ok(runner) => break runner,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        let end = || std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
        tokio::task::spawn_blocking(end).await.unwrap().unwrap();
        runner.shutdown().await.unwrap();
    });
}

struct Replica(Child);

impl Replica {
    fn start(url: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chaos::replica_process", "--ignored", "--quiet"])
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
    }

    fn kill(mut self) {
        self.signal(Signal::KILL);
        self.0.wait().unwrap();
    }

    /// Asks it to leave in good order, and waits.
    fn leave(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

/// A proxy that cuts all connections when asked to, and takes new ones.
async fn proxy(server: u16) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (cut, cuts) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else {
                    return;
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    });
    (port, cut)
}

/// Appends to its streams, each event once, whatever happens to the database.
async fn write(store: EventStore, writer: usize, stop: Arc<AtomicBool>, written: Arc<AtomicUsize>) {
    let mut versions = [0; STREAMS / WRITERS];
    let mut rng = StdRng::seed_from_u64(writer as u64);
    while !stop.load(Ordering::SeqCst) {
        let index = rng.random_range(0..versions.len());
        let stream = format!("account-{}", index * WRITERS + writer);
        let events: Vec<_> = (0..rng.random_range(1..4))
            .map(|n| {
                NewEvent::untyped(
                    "deposited",
                    &serde_json::json!({ "number": n + versions[index] }),
                )
                .unwrap()
            })
            .collect();
        while let Err(error) = store
            .append(&stream, exactly(versions[index]), events.clone())
            .await
        {
            assert!(!error.is_conflict(), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        versions[index] += events.len();
        written.fetch_add(events.len(), Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..15))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_models_equal_the_log_whatever_happens_to_replicas_and_database() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let time = Duration::from_secs(if long { 300 } else { 12 });
    let seed = std::env::var("MIRE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("MIRE_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);

    let mut cluster = tokio::task::spawn_blocking(|| Cluster::start().unwrap())
        .await
        .unwrap();
    // Replicas are stopped in the middle of a transaction, and cut off.
    cluster
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let url = cluster.url("mire");
    session(&url).await.batch_execute(TABLES).await.unwrap();
    let (port, cut) = proxy(cluster.port()).await;
    let by_proxy = format!("postgres://postgres@127.0.0.1:{port}/mire");
    // Half of the replicas are behind the proxy.
    let url_of = |replica: usize| {
        if replica.is_multiple_of(2) {
            url.as_str()
        } else {
            by_proxy.as_str()
        }
    };
    let mut replicas: Vec<_> = (0..REPLICAS).map(|n| Replica::start(url_of(n))).collect();

    let store = EventStore::builder().url(&url).build().unwrap();
    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), writer, stop.clone(), written.clone())))
        .collect();

    let started = Instant::now();
    let mut done = [0; 4];
    while started.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..1_000))).await;
        let victim = rng.random_range(0..REPLICAS);
        // The database crashes once in the short run, and ever again in the long one.
        let crash_due =
            started.elapsed() > time / 2 && done[3] == 0 || (long && rng.random_bool(0.02));
        match rng.random_range(0..3) {
            _ if crash_due => {
                cluster = tokio::task::spawn_blocking(move || {
                    cluster.crash().unwrap();
                    cluster
                })
                .await
                .unwrap();
                done[3] += 1;
            }
            0 => {
                let fresh = Replica::start(url_of(victim));
                std::mem::replace(&mut replicas[victim], fresh).kill();
                done[0] += 1;
            }
            1 => {
                replicas[victim].signal(Signal::STOP);
                tokio::time::sleep(TTL + Duration::from_millis(rng.random_range(100..1_500))).await;
                replicas[victim].signal(Signal::CONT);
                done[1] += 1;
            }
            _ => {
                cut.send_modify(|cuts| *cuts += 1);
                done[2] += 1;
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let written = written.load(Ordering::SeqCst);
    println!(
        "{written} events; {} replicas killed, {} stopped and resumed, {} times connections cut, {} crashes of the database",
        done[0], done[1], done[2], done[3]
    );

    let now = store.safe_position().await.unwrap();
    for name in ["one_by_one", "by_the_page", "notes"] {
        let caught_up = store.wait_for(name, now, Duration::from_secs(60)).await;
        if let Err(error) = caught_up {
            panic!("{error}: {:#?}", store.subscription_status(name).await);
        }
    }
    let session = session(&url).await;
    let number = |sql: String| {
        let session = &session;
        async move { session.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) }
    };
    let fold = "SELECT s.stream, count(*)::bigint AS events, sum((e.data ->> 'number')::bigint)::bigint AS cents
        FROM mire.events AS e JOIN mire.stream_heads AS s USING (stream_no) GROUP BY s.stream";
    assert_eq!(
        number("SELECT count(*) FROM mire.events".into()).await,
        i64::try_from(written).unwrap()
    );
    for model in ["one_by_one", "by_the_page"] {
        for (this, that) in [
            (format!("SELECT * FROM {model}"), fold.to_owned()),
            (fold.to_owned(), format!("SELECT * FROM {model}")),
        ] {
            let differing =
                number(format!("SELECT count(*) FROM ({this} EXCEPT {that}) AS d")).await;
            assert_eq!(differing, 0, "{model} is not the fold of the log");
        }
    }
    // At least once, and none before the one before it: replays are of prefixes only.
    let distinct =
        number("SELECT count(*) FROM (SELECT DISTINCT stream, version FROM seen) AS d".into())
            .await;
    assert_eq!(distinct, i64::try_from(written).unwrap());
    let early = "SELECT count(*) FROM (
        SELECT version, coalesce(max(version) OVER (PARTITION BY stream ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
          FROM seen) AS o WHERE version > before + 1";
    assert_eq!(number(early.into()).await, 0, "events out of order");
    let again = number("SELECT count(*) FROM seen".into()).await - distinct;
    let refused = cluster.log().matches("is lost").count();
    println!(
        "{again} events came again to the plain handler; the database refused {refused} calls of superseded workers"
    );
    for replica in replicas {
        replica.leave();
    }
    let held =
        number("SELECT count(*) FROM mire.subscription_status WHERE holder IS NOT NULL".into())
            .await;
    assert_eq!(held, 0, "who leaves in good order leaves nothing behind");
}
