//! People who order trips, in several ways at once, and change their minds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mire_client::{EventStore, ExpectedVersion, NewEvent};
use mire_sagas::{SagaRunner, SagaStatus};
use rand::RngExt;
use rand::rngs::StdRng;

use super::PAY_WITHIN;
use super::booking::{TravelBooking, Trip, TripCalledOff, TripRequested};

/// What becomes of a trip, as far as people decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Plain,
    NoRoom,
    NoMoney,
    Cancelled,
    CalledOff,
}

impl Fate {
    /// Whether that may be the end of it. Any payment may come too late.
    pub(crate) fn may_end(self, outcome: SagaStatus) -> bool {
        match outcome {
            SagaStatus::Compensated => true,
            SagaStatus::Completed => !matches!(self, Self::NoRoom | Self::NoMoney),
            SagaStatus::Cancelled => self == Self::Cancelled,
            _ => false,
        }
    }
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
pub(crate) struct Traveller {
    store: EventStore,
    runner: SagaRunner<TravelBooking>,
    pub(crate) trip: Trip,
    pub(crate) fate: Fate,
    way: Way,
    changes_mind_after: Duration,
    changes: Arc<AtomicUsize>,
}

impl Traveller {
    pub(crate) fn random(
        n: usize,
        rng: &mut StdRng,
        store: &EventStore,
        runner: &SagaRunner<TravelBooking>,
        changes: &Arc<AtomicUsize>,
    ) -> Self {
        let fate = match rng.random_range(0..100) {
            0..55 => Fate::Plain,
            55..65 => Fate::NoRoom,
            65..75 => Fate::NoMoney,
            75..88 => Fate::Cancelled,
            _ => Fate::CalledOff,
        };
        let (to, cents) = match fate {
            Fate::NoRoom => ("Atlantis", 84_000),
            Fate::NoMoney => ("Tokyo", 900_000),
            _ => ("Lisbon", 84_000),
        };
        let trip = Trip {
            id: format!("t{n}"),
            to: to.into(),
            cents,
            pay_within_ms: u64::try_from(PAY_WITHIN.as_millis()).unwrap(),
        };
        let way = match rng.random_range(0..3) {
            0 => Way::Event,
            1 => Way::Call,
            _ => Way::All,
        };
        Self {
            store: store.clone(),
            runner: runner.clone(),
            trip,
            fate,
            way,
            changes_mind_after: Duration::from_millis(rng.random_range(0..1_500)),
            changes: changes.clone(),
        }
    }

    pub(crate) async fn orders(self) {
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
