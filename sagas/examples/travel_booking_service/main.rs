//! Trips booked by several processes with a provider that fails every fourth request, is slow at times, and loses answers to
//! what it has done. Flights, rooms and confirmations are effects in the workers; payments go through the outbox, and some
//! are answered by a call back. One worker is killed on the way. At the end the provider's ledger is held against the
//! instances.
//!
//! `cargo run -p mire-sagas --example travel_booking_service`

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mire_client::{BoxError, EventStore, ExpectedVersion, NewEvent, testing};
use mire_sagas::{SagaRunner, SagaStatus};

mod audit;
mod booking;
mod client;
mod processes;
mod provider;

use booking::{TravelBooking, Trip, TripCalledOff, TripRequested};
use processes::{Desk, Surroundings};
use provider::{Manners, Provider};

const WORKERS: usize = 3;

fn trips() -> Vec<Trip> {
    let trip = |id: &str, to: &str, cents| Trip {
        id: id.into(),
        to: to.into(),
        cents,
        pay_within_ms: 30_000,
    };
    let mut trips: Vec<_> = (1..=12)
        .map(|n| trip(&format!("lisbon-{n}"), "Lisbon", 84_000))
        .collect();
    trips.push(trip("no-room", "Atlantis", 84_000));
    trips.push(trip("no-money", "Tokyo", 900_000));
    trips.push(trip("stays-at-home", "Oslo", 84_000));
    trips
}

/// `worker` is how this program is started again as a worker: see [`worker_process`].
pub(crate) async fn run(url: &str, worker: impl Fn() -> Command) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let (provider, desk) = (
        Provider::start(Manners::default()).await?,
        Desk::open().await?,
    );
    let surroundings = Surroundings {
        database: url.to_owned(),
        provider: provider.url.clone(),
        callback: desk.url.clone(),
        ttl: Duration::from_secs(2),
    };
    let runner = SagaRunner::<TravelBooking>::new(surroundings.topology()?, store.clone());
    let desk = desk.serve(runner.clone());
    let mut workers = (0..WORKERS)
        .map(|_| surroundings.worker(worker()))
        .collect::<Result<Vec<_>, _>>()?;

    // Another program says who wants to travel; the workers start an instance for each.
    let started = Instant::now();
    for trip in trips() {
        let stream = format!("trip-{}", trip.id);
        let requested = NewEvent::new(&TripRequested { trip })?;
        store
            .append(stream, ExpectedVersion::NoStream, [requested])
            .await?;
    }
    let called_off = TripCalledOff {
        why: "a cold".into(),
    };
    while let Err(error) = runner.signal("stays-at-home", &called_off).await {
        if !error.is_not_found() {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    let fresh = surroundings.worker(worker())?;
    std::mem::replace(&mut workers[0], fresh).kill()?;
    println!("a worker was killed, and another took its place");

    let mut outcomes = BTreeMap::new();
    for trip in trips() {
        let ended = runner
            .wait_until_ended(&trip.id, Duration::from_secs(60))
            .await?;
        println!("{:15} {ended}", trip.id);
        outcomes.insert(trip.id, ended);
    }
    println!("all ended after {:.1?}\n", started.elapsed());
    for trip in ["lisbon-1", "no-money"] {
        println!("{}\n", runner.describe(trip).await?);
        println!("{}\n", runner.mermaid_instance(trip).await?);
    }

    // Answers may come after the end, and what they tell is undone: until there is none left.
    while provider.counts().to_call.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sql = store.pool().get().await?;
    let open =
        "SELECT (SELECT count(*) FROM mire.sagas WHERE ended_at IS NULL OR due_at IS NOT NULL)
                     + (SELECT count(*) FROM mire.outbox_status WHERE status = 'pending')";
    while sql.query_one(open, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for worker in workers {
        worker.leave()?;
    }
    desk.abort();

    let counts = provider.counts();
    let count = |figure: &std::sync::atomic::AtomicUsize| figure.load(Ordering::SeqCst);
    println!(
        "the provider had {} requests, was out of order for {}, lost {} answers, saw a key again {} times and called back about {}",
        count(&counts.requests),
        count(&counts.unavailable),
        count(&counts.cut_off),
        count(&counts.again),
        count(&counts.calls_back),
    );
    let wrong = audit::discrepancies(&provider.ledger(), &outcomes);
    if !wrong.is_empty() {
        return Err(wrong.join("\n").into());
    }
    println!("its ledger agrees with the instances");
    assert_eq!(outcomes["no-room"], SagaStatus::Compensated);
    assert_eq!(outcomes["no-money"], SagaStatus::Compensated);
    Ok(())
}

/// What the program does when it was started as a worker; false when it was not.
pub(crate) async fn worker_process() -> Result<bool, BoxError> {
    match Surroundings::from_env() {
        Some(surroundings) => surroundings.work().await.map(|()| true),
        None => Ok(false),
    }
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    if worker_process().await? {
        return Ok(());
    }
    let database = testing::database()?;
    let itself = std::env::current_exe()?;
    run(database.url(), || Command::new(&itself)).await
}
