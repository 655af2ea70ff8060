//! Bookings by worker processes that are killed, stopped past their leases and resumed, cut off from a database that crashes,
//! with a provider that fails, dawdles and loses answers, and people who order twice and change their minds: every booking
//! comes to its end by itself, and the provider's ledger is what the ends say.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mire_client::testing::Cluster;
use mire_client::{EventStore, ExpectedVersion, NewEvent};
use mire_sagas::{ListFilter, SagaRunner, SagaStatus};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

#[path = "../examples/travel_booking_service/audit.rs"]
mod audit;
#[path = "../examples/travel_booking_service/booking.rs"]
mod booking;
#[path = "../examples/travel_booking_service/client.rs"]
mod client;
#[path = "../examples/travel_booking_service/processes.rs"]
mod processes;
#[path = "../examples/travel_booking_service/provider.rs"]
mod provider;

use booking::{TravelBooking, Trip, TripCalledOff, TripRequested};
use processes::{Desk, Surroundings, Worker};
use provider::{Manners, Provider};

const WORKERS: usize = 4;
const TTL: Duration = Duration::from_secs(2);
/// How long a payment may take; some of the provider's calls back come later.
const PAY_WITHIN: Duration = Duration::from_secs(6);
/// After the last trouble everything ends within this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a worker's process does: it is this test program, started again by the test below.
#[test]
#[ignore = "a part of the chaos test, which starts it"]
fn worker_process() {
    let Some(surroundings) = Surroundings::from_env() else {
        return;
    };
    // Not even a stopped one outlives the test.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let level = std::env::var("MIRE_CHAOS_LOG").map(|level| level.parse::<tracing::Level>());
    if let Ok(Ok(level)) = level {
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(std::io::stderr)
            .init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(surroundings.work()).unwrap();
}

fn worker_program() -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "worker_process", "--ignored", "--quiet"]);
    program
}

fn signal(worker: &Worker, signal: Signal) {
    kill_process(Pid::from_child(&worker.0), signal).unwrap();
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

/// What becomes of a trip, as far as people decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Plain,
    NoRoom,
    NoMoney,
    Cancelled,
    CalledOff,
}

/// How an instance is started.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// By an event that the workers see.
    Event,
    /// By a call.
    Call,
    /// By two calls and an event, at the same time.
    All,
}

/// Until it works: the database crashes now and then.
async fn again_and_again<T, E, F>(work: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
{
    loop {
        match work().await {
            Ok(done) => return done,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Somebody who orders a trip, and may change their mind.
struct Traveller {
    store: EventStore,
    runner: SagaRunner<TravelBooking>,
    trip: Trip,
    fate: Fate,
    way: Way,
    changes_mind_after: Duration,
    changes: Arc<AtomicUsize>,
}

impl Traveller {
    async fn orders(self) {
        match self.way {
            Way::Event => self.asks().await,
            Way::Call => self.calls().await,
            Way::All => {
                tokio::join!(self.calls(), self.asks(), self.calls());
            }
        }
        tokio::time::sleep(self.changes_mind_after).await;
        match self.fate {
            Fate::Cancelled => {
                tokio::join!(self.cancels(), self.cancels());
            }
            Fate::CalledOff => {
                tokio::join!(self.calls_off(), self.calls_off());
            }
            _ => {}
        }
    }

    async fn calls(&self) {
        let trip = &self.trip;
        again_and_again(|| self.runner.start(trip.id.clone(), trip.clone())).await;
    }

    async fn asks(&self) {
        let trip = self.trip.clone();
        let (stream, requested) = (format!("trip-{}", trip.id), TripRequested { trip });
        let requested = NewEvent::new(&requested).unwrap();
        again_and_again(|| {
            let events = [requested.clone()];
            self.store
                .append(stream.clone(), ExpectedVersion::NoStream, events)
        })
        .await;
    }

    async fn cancels(&self) {
        let cancelled = || async {
            match self.runner.cancel(&self.trip.id, "rain").await {
                Ok(()) => Ok(true),
                Err(error) if error.is_state() => Ok(false),
                Err(error) => Err(error),
            }
        };
        if again_and_again(cancelled).await {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn calls_off(&self) {
        let why = TripCalledOff { why: "rain".into() };
        let (trip, id) = (&self.trip.id, format!("{} stays at home", self.trip.id));
        again_and_again(|| {
            self.runner
                .signal_once(trip, "trip.called-off", &why, id.clone())
        })
        .await;
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// How much of it.
struct Plan {
    seed: u64,
    trouble: Duration,
    trips: usize,
    manners: Manners,
}

#[derive(Debug, Default)]
struct Troubles {
    kills: usize,
    stops: usize,
    cuts: usize,
    crashes: usize,
    immediate: usize,
    restarts: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_every_booking_comes_to_its_end_and_the_ledger_agrees() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let seed = std::env::var("MIRE_SEED").ok();
    let seeds = match seed.and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None if long => vec![7, 11, 23],
        None => vec![7],
    };
    for seed in seeds {
        let much_later = (0.1, PAY_WITHIN + Duration::from_secs(2));
        book(Plan {
            seed,
            trouble: Duration::from_secs(if long { 300 } else { 30 }),
            trips: if long { 600 } else { 60 },
            manners: Manners {
                much_later,
                ..Manners::default()
            },
        })
        .await;
    }
}

async fn book(plan: Plan) {
    println!("MIRE_SEED={}", plan.seed);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let cluster = tokio::task::spawn_blocking(|| Arc::new(Cluster::start().unwrap()))
        .await
        .unwrap();
    // Workers are stopped in the middle of a transaction, and cut off; the server is told to go.
    for line in [
        "terminating connection due to idle-in-transaction timeout",
        "terminating connection due to administrator command",
        "connection to client lost",
    ] {
        cluster.expect_in_log(line).unwrap();
    }
    let url = cluster.url("mire");
    let store = EventStore::builder().url(&url).build().unwrap();
    let (port, cut) = proxy(cluster.port()).await;
    let by_proxy = format!("postgres://postgres@127.0.0.1:{port}/mire");
    let provider = Provider::start(plan.manners).await.unwrap();
    let desk = Desk::open().await.unwrap();
    let direct = Surroundings {
        database: url.clone(),
        provider: provider.url.clone(),
        callback: desk.url.clone(),
        ttl: TTL,
    };
    let proxied = Surroundings {
        database: by_proxy,
        ..direct.clone()
    };
    // Half of the workers are behind the proxy.
    let start = |n: usize| {
        let surroundings = if n.is_multiple_of(2) {
            &direct
        } else {
            &proxied
        };
        surroundings.worker(worker_program()).unwrap()
    };
    let mut workers: Vec<_> = (0..WORKERS).map(start).collect();
    let runner = SagaRunner::new(direct.topology().unwrap(), store.clone());
    let desk = desk.serve(runner.clone());

    // People order all the time, but for the last fifth of it.
    let changes = Arc::new(AtomicUsize::new(0));
    let pause = plan.trouble.mul_f64(0.8) / u32::try_from(plan.trips).unwrap();
    let mut travellers = JoinSet::new();
    let mut fates = BTreeMap::new();
    for n in 0..plan.trips {
        let fate = match rng.random_range(0..100) {
            0..55 => Fate::Plain,
            55..65 => Fate::NoRoom,
            65..75 => Fate::NoMoney,
            75..88 => Fate::Cancelled,
            _ => Fate::CalledOff,
        };
        let trip = Trip {
            id: format!("t{n}"),
            to: if fate == Fate::NoRoom {
                "Atlantis"
            } else {
                "Lisbon"
            }
            .into(),
            cents: if fate == Fate::NoMoney {
                900_000
            } else {
                84_000
            },
            pay_within_ms: u64::try_from(PAY_WITHIN.as_millis()).unwrap(),
        };
        fates.insert(trip.id.clone(), fate);
        let traveller = Traveller {
            store: store.clone(),
            runner: runner.clone(),
            trip,
            fate,
            way: *[Way::Event, Way::Call, Way::All].choose(&mut rng).unwrap(),
            changes_mind_after: Duration::from_millis(rng.random_range(0..1_500)),
            changes: changes.clone(),
        };
        let after = pause * u32::try_from(n).unwrap();
        travellers.spawn(async move {
            tokio::time::sleep(after).await;
            traveller.orders().await;
        });
    }

    let started = Instant::now();
    let mut done = Troubles::default();
    // The database crashes, is stopped at once, and is restarted in good order: once each in a short run, ever again in a long one.
    let every = plan.trouble.min(Duration::from_secs(30)) / 4;
    let mut next_down = every;
    let mut downs = 0;
    while started.elapsed() < plan.trouble {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..900))).await;
        let victim = rng.random_range(0..WORKERS);
        if started.elapsed() > next_down {
            next_down += every;
            let (cluster, how) = (cluster.clone(), downs % 3);
            downs += 1;
            tokio::task::spawn_blocking(move || take_down(&cluster, how))
                .await
                .unwrap();
            match how {
                0 => done.crashes += 1,
                1 => done.immediate += 1,
                _ => done.restarts += 1,
            }
            continue;
        }
        match rng.random_range(0..10) {
            0..5 => {
                std::mem::replace(&mut workers[victim], start(victim))
                    .kill()
                    .unwrap();
                done.kills += 1;
            }
            5..8 => {
                signal(&workers[victim], Signal::STOP);
                tokio::time::sleep(TTL + Duration::from_millis(rng.random_range(100..1_500))).await;
                signal(&workers[victim], Signal::CONT);
                done.stops += 1;
            }
            _ => {
                cut.send_modify(|cuts| *cuts += 1);
                done.cuts += 1;
            }
        }
    }
    while let Some(traveller) = travellers.join_next().await {
        traveller.unwrap();
    }
    let troubled = started.elapsed();

    let sql = session(&url).await;
    let left = come_to_rest(&sql, &provider).await;
    let rested = started.elapsed() - troubled;
    if !left.is_empty() {
        for instance in &left {
            eprintln!("{}", runner.describe(instance).await.unwrap_or_default());
        }
        panic!("after {PATIENCE:?} there is still something to do: {left:?}");
    }
    for worker in workers {
        assert!(worker.leave().unwrap());
    }
    desk.abort();

    let outcomes = outcomes(&runner, plan.trips).await;
    let mut figures = BTreeMap::new();
    for outcome in outcomes.values() {
        *figures.entry(outcome.as_str()).or_insert(0) += 1;
    }
    println!(
        "{} instances: {figures:?}; {done:?}; {} changes of mind; {:.0?} of trouble, at rest {rested:.1?} later",
        outcomes.len(),
        changes.load(Ordering::SeqCst),
        troubled,
    );
    print_figures(&sql, &provider).await;

    let mut wrong = audit::discrepancies(&provider.ledger(), &outcomes);
    for (trip, outcome) in &outcomes {
        let fits = match fates.get(trip) {
            // The provider may be late with a payment.
            Some(Fate::Plain) => matches!(outcome, SagaStatus::Completed | SagaStatus::Compensated),
            Some(Fate::NoRoom | Fate::NoMoney) => *outcome == SagaStatus::Compensated,
            Some(Fate::Cancelled) => matches!(
                outcome,
                SagaStatus::Cancelled | SagaStatus::Completed | SagaStatus::Compensated
            ),
            Some(Fate::CalledOff) => {
                matches!(outcome, SagaStatus::Completed | SagaStatus::Compensated)
            }
            None => false,
        };
        if !fits {
            wrong.push(format!("trip {trip}, {:?}: {outcome}", fates.get(trip)));
        }
    }
    for trip in fates.keys().filter(|trip| !outcomes.contains_key(*trip)) {
        wrong.push(format!("trip {trip} was never started"));
    }
    for (trip, _) in outcomes.iter().filter(|(trip, _)| {
        let named = |text: &String| {
            text.contains(&format!("trip {trip}:")) || text.contains(&format!("trip {trip},"))
        };
        wrong.iter().any(named)
    }) {
        eprintln!("{}", runner.describe(trip).await.unwrap_or_default());
    }
    wrong.extend(broken_rules(&sql).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(sql);
    drop(store);
    cluster.assert_clean_log(&[]);
}

/// The postmaster is killed together with all its processes; or it is told to stop at once, or in good order. Then it comes again.
fn take_down(cluster: &Cluster, how: usize) {
    match how {
        0 => cluster.crash().unwrap(),
        1 => {
            let postmaster = cluster.pid().unwrap();
            let postmaster = Pid::from_raw(i32::try_from(postmaster).unwrap()).unwrap();
            kill_process(postmaster, Signal::QUIT).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            while cluster.pid().is_some() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            cluster.crash().unwrap();
        }
        _ => cluster.restart().unwrap(),
    }
}

async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn texts(sql: &tokio_postgres::Client, query: &str) -> Vec<String> {
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until there is nothing left to do; answers the instances that still have something.
async fn come_to_rest(sql: &tokio_postgres::Client, provider: &Provider) -> Vec<String> {
    let busy = "SELECT instance FROM mire.sagas WHERE ended_at IS NULL OR due_at IS NOT NULL OR holder IS NOT NULL
                UNION SELECT instance FROM mire.outbox_status WHERE status = 'pending'
                UNION SELECT stream FROM mire.stream_heads AS h WHERE starts_with(stream, 'trip-')
                  AND NOT EXISTS (SELECT FROM mire.sagas AS s WHERE 'trip-' || s.instance = h.stream)";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = texts(sql, busy).await;
        let calls = provider.counts().to_call.load(Ordering::SeqCst);
        if left.is_empty() && calls == 0 || Instant::now() > deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn outcomes(
    runner: &SagaRunner<TravelBooking>,
    trips: usize,
) -> BTreeMap<String, SagaStatus> {
    let all = [
        SagaStatus::Running,
        SagaStatus::Compensating,
        SagaStatus::Parked,
        SagaStatus::Intervention,
        SagaStatus::Completed,
        SagaStatus::Compensated,
        SagaStatus::Failed,
        SagaStatus::Cancelled,
    ];
    let all = ListFilter::new()
        .statuses(all)
        .max(u32::try_from(trips * 2).unwrap());
    let listed = runner.list(&all).await.unwrap();
    let ended = listed
        .into_iter()
        .map(|listed| (listed.instance, listed.status));
    ended.collect()
}

/// What must hold of the database at the end, and does not.
async fn broken_rules(sql: &tokio_postgres::Client) -> Vec<String> {
    let rules = [
        "SELECT 'leak: ' || saga || '/' || coalesce(instance, '') || ': ' || reason FROM mire.saga_leaks",
        "SELECT 'not at its end: ' || instance || ': ' || status FROM mire.sagas
          WHERE status NOT IN ('completed', 'compensated', 'cancelled')",
        "SELECT 'leased or due: ' || instance FROM mire.sagas
          WHERE holder IS NOT NULL OR lease_expires_at > clock_timestamp() OR due_at IS NOT NULL OR steps <> '{}'",
        "SELECT 'message ' || key || ' is ' || status FROM mire.outbox_status WHERE status IN ('pending', 'sent')",
        "SELECT 'stream ' || h.stream || ' has ' || count(*) || ' of ' || h.version || ' versions'
           FROM mire.stream_heads AS h JOIN mire.events AS e USING (stream_no)
          GROUP BY h.stream, h.version
         HAVING count(*) <> h.version OR min(e.version) <> 1 OR max(e.version) <> h.version",
        "SELECT 'stream without an instance: ' || h.stream FROM mire.stream_heads AS h
          WHERE starts_with(h.stream, '$saga:') AND NOT EXISTS (SELECT FROM mire.sagas AS s WHERE s.stream_no = h.stream_no)",
        "SELECT 'the subscription is held by ' || holder FROM mire.subscription_status WHERE holder IS NOT NULL",
    ];
    let mut broken = Vec::new();
    for rule in rules {
        broken.extend(texts(sql, rule).await);
    }
    broken
}

async fn print_figures(sql: &tokio_postgres::Client, provider: &Provider) {
    let counts = provider.counts();
    let count = |figure: &AtomicUsize| figure.load(Ordering::SeqCst);
    println!(
        "provider: {} requests, {} out of order, {} answers lost, {} times a key again, {} calls back",
        count(&counts.requests),
        count(&counts.unavailable),
        count(&counts.cut_off),
        count(&counts.again),
        count(&counts.calls_back),
    );
    let facts =
        "SELECT CASE WHEN f ? 'undo' THEN 'undo ' ELSE '' END || (f ->> 'fact') || ' ' || count(*)
        FROM mire.events AS e JOIN mire.sagas AS s USING (stream_no)
       CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'facts') AS f
       GROUP BY f ->> 'fact', f ? 'undo' ORDER BY 1";
    println!("facts: {}", texts(sql, facts).await.join(", "));
    let after = "SELECT count(*)::text FROM mire.sagas AS s
        WHERE EXISTS (SELECT FROM mire.events AS e WHERE e.stream_no = s.stream_no AND e.type = '$saga_ended'
          AND EXISTS (SELECT FROM mire.events AS l WHERE l.stream_no = s.stream_no AND l.version > e.version))";
    let messages =
        "SELECT status || ' ' || count(*) FROM mire.outbox_status GROUP BY status ORDER BY 1";
    println!(
        "told something after their end: {}; messages that stay: {}",
        texts(sql, after).await.join(""),
        texts(sql, messages).await.join(", ")
    );
}
