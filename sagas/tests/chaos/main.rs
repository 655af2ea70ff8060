//! Bookings by worker processes that are killed, stopped past their leases and resumed, cut off from a database that crashes,
//! with a provider that fails, dawdles and loses answers, and people who order twice and change their minds: every booking
//! comes to its end by itself, and the provider's ledger is what the ends say.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mire_client::EventStore;
use mire_client::testing::Cluster;
use mire_sagas::SagaRunner;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

#[path = "../../examples/travel_booking_service/audit.rs"]
mod audit;
#[path = "../../examples/travel_booking_service/booking.rs"]
mod booking;
#[path = "../../examples/travel_booking_service/client.rs"]
mod client;
#[path = "../../examples/travel_booking_service/processes.rs"]
mod processes;
#[path = "../../examples/travel_booking_service/provider.rs"]
mod provider;

mod checks;
mod people;
mod troubles;

use people::Traveller;
use processes::{Desk, Surroundings};
use provider::{Manners, Provider};
use troubles::{Fleet, proxy};

const TTL: Duration = Duration::from_secs(2);
/// How long a payment may take; some of the provider's calls back come later.
const PAY_WITHIN: Duration = Duration::from_secs(6);
/// After the last trouble everything ends within this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a worker's process does: it is this test program, started again by the tests below.
#[test]
#[ignore = "a part of the chaos test, which starts it"]
fn worker_process() {
    if let Some(surroundings) = Surroundings::from_env() {
        troubles::work(&surroundings);
    }
}

/// How much of it.
struct Plan {
    seed: u64,
    trouble: Duration,
    trips: usize,
    manners: Manners,
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
        let wrong = book(Plan {
            seed,
            trouble: Duration::from_secs(if long { 300 } else { 14 }),
            trips: if long { 600 } else { 60 },
            manners: Manners {
                much_later: (0.1, PAY_WITHIN + Duration::from_secs(2)),
                ..Manners::default()
            },
        });
        let wrong = wrong.await;
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// That the test above would notice: what has to fail with a provider that forgets keys does.
#[tokio::test(flavor = "multi_thread")]
async fn chaos_a_provider_that_forgets_keys_is_noticed() {
    let plan = Plan {
        seed: 7,
        trouble: Duration::from_secs(8),
        trips: 30,
        manners: Manners {
            knows_keys: false,
            cut_off: 0.3,
            ..Manners::default()
        },
    };
    let wrong = book(plan).await;
    assert!(wrong.iter().any(|line| line.contains("booked as")));
}

/// Everything that is wrong in the end.
async fn book(plan: Plan) -> Vec<String> {
    println!("MIRE_SEED={}", plan.seed);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let cluster = tokio::task::spawn_blocking(|| Arc::new(Cluster::start().unwrap()));
    let cluster = cluster.await.unwrap();
    // Workers are stopped in the middle of a transaction, and cut off; the server is told to go.
    for line in [
        "terminating connection due to idle-in-transaction timeout",
        "terminating connection due to administrator command",
        // A worker that is stopped while it connects.
        "canceling authentication due to timeout",
    ] {
        cluster.expect_in_log(line).unwrap();
    }
    let url = cluster.url("mire");
    let store = EventStore::builder().url(&url).build().unwrap();
    let (port, cut) = proxy(cluster.port()).await;
    let provider = Provider::start(plan.manners).await.unwrap();
    let desk = Desk::open().await.unwrap();
    let direct = Surroundings {
        database: url.clone(),
        provider: provider.url.clone(),
        callback: desk.url.clone(),
        ttl: TTL,
    };
    let proxied = Surroundings {
        database: format!("postgres://postgres@127.0.0.1:{port}/mire"),
        ..direct.clone()
    };
    let runner = SagaRunner::new(direct.topology().unwrap(), store.clone());
    let desk = desk.serve(runner.clone());
    let mut fleet = Fleet::start(direct, proxied, cluster.clone(), cut);

    // People order all the time, but for the last fifth of it.
    let changes = Arc::new(AtomicUsize::new(0));
    let pause = plan.trouble.mul_f64(0.8) / u32::try_from(plan.trips).unwrap();
    let mut travellers = JoinSet::new();
    let mut fates = BTreeMap::new();
    for n in 0..plan.trips {
        let traveller = Traveller::random(n, &mut rng, &store, &runner, &changes);
        fates.insert(traveller.trip.id.clone(), traveller.fate);
        let after = pause * u32::try_from(n).unwrap();
        travellers.spawn(async move {
            tokio::time::sleep(after).await;
            traveller.orders().await;
        });
    }
    let started = Instant::now();
    fleet.suffers(plan.trouble, &mut rng).await;
    while let Some(traveller) = travellers.join_next().await {
        traveller.unwrap();
    }

    // From here on nobody helps.
    let troubled = started.elapsed();
    let sql = checks::session(&url).await;
    let left = checks::come_to_rest(&sql, &provider).await;
    let rested = started.elapsed() - troubled;
    for instance in &left {
        println!("{}", runner.describe(instance).await.unwrap_or_default());
    }
    assert!(left.is_empty(), "after {PATIENCE:?} not at rest: {left:?}");
    let done = fleet.leave();
    desk.abort();

    let outcomes = checks::outcomes(&runner, plan.trips).await;
    let mut figures = BTreeMap::new();
    for outcome in outcomes.values() {
        *figures.entry(outcome.as_str()).or_insert(0) += 1;
    }
    println!(
        "{} instances: {figures:?}; {} changes of mind; {done:?}; {troubled:.0?} of trouble, at rest {rested:.1?} later",
        outcomes.len(),
        changes.load(Ordering::SeqCst),
    );
    checks::print_figures(&sql, &provider).await;

    let mut wrong = audit::discrepancies(&provider.ledger(), &outcomes);
    for (trip, fate) in &fates {
        let outcome = outcomes.get(trip);
        if !outcome.is_some_and(|outcome| fate.may_end(*outcome)) {
            wrong.push(format!("trip {trip}, which is {fate:?}, ended {outcome:?}"));
        }
    }
    checks::lease_runs_out(&sql).await;
    wrong.extend(checks::broken_rules(&sql).await);
    let mut stories = Vec::new();
    for trip in outcomes.keys() {
        let about = |line: &String| line.contains(&format!("trip {trip},"));
        if wrong.iter().any(about) {
            stories.push(runner.describe(trip).await.unwrap_or_default());
        }
    }
    wrong.extend(stories);
    drop((sql, store, runner));
    cluster.assert_clean_log(&[]);
    wrong
}
