//! A trip: flight and hotel at the same time, then the payment, then the confirmation. One trip comes about; for the other
//! there is no room left, and what had been booked is undone.
//!
//! `cargo run -p mire-sagas --example travel_booking`

use std::sync::Mutex;
use std::time::Duration;

use mire_client::{BoxError, EventData, EventStore, testing};
use mire_sagas::{
    Dep, EffectError, Emit, IdempotencyKey, Output, Req, RetryPolicy, Saga, SagaBuilder,
    SagaRunner, SagaStatus, SagaWorker, State, comp, task,
};
use serde::{Deserialize, Serialize};

/// What an instance starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trip {
    traveller: String,
    to: String,
    cents: i64,
}

/// What steps and undos ask for, and what they are answered.
#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "flight.book")]
struct BookFlight {
    traveller: String,
    to: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "flight.booked")]
struct FlightBooked {
    locator: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "flight.cancel")]
struct CancelFlight {
    locator: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "room.book")]
struct BookRoom {
    traveller: String,
    city: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "room.booked")]
struct RoomBooked {
    room: u32,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "room.cancel")]
struct CancelRoom {
    room: u32,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.take")]
struct TakePayment {
    payer: String,
    cents: i64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.taken")]
struct PaymentTaken {
    receipt: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.refund")]
struct Refund {
    receipt: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "confirmation.send")]
struct SendConfirmation {
    to: String,
    text: String,
}

/// What happened in the world outside.
#[derive(Default)]
struct World(Mutex<Vec<String>>);

impl World {
    fn happens(&self, what: String) {
        println!("  {what}");
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(what);
    }
}

struct TravelBooking;

impl Saga for TravelBooking {
    type State = Trip;
    const NAME: &'static str = "travel_booking";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let patient = || {
            RetryPolicy::default()
                .attempts(5)
                .backoff(Duration::from_millis(50), Duration::from_secs(1))
        };
        saga.step(
            "flight",
            task(book_flight)
                .effect(at_the_airline)
                .on_response(|booked: FlightBooked| booked)
                .retry(patient())
                .compensate(comp(cancel_flight).effect(off_the_plane)),
        )
        .step(
            "hotel",
            task(book_room)
                .effect(at_the_hotel)
                .on_response(|booked: RoomBooked| booked)
                .retry(patient())
                .compensate(comp(cancel_room).effect(out_of_the_hotel)),
        )
        .step(
            "payment",
            task(take_payment)
                .after(["flight", "hotel"])
                .effect(at_the_bank)
                .on_response(|taken: PaymentTaken| taken)
                .compensate(comp(refund).effect(back_to_the_payer)),
        )
        .step(
            "confirmation",
            task(confirm)
                .after("payment")
                .effect(by_mail)
                .terminal_success(),
        )
    }
}

// What is to be done: pure functions of what is known.

fn book_flight(State(trip): State<Trip>) -> Emit<BookFlight> {
    Emit::event(BookFlight {
        traveller: trip.traveller,
        to: trip.to,
    })
}

fn cancel_flight(Output(flight): Output<FlightBooked>) -> Emit<CancelFlight> {
    Emit::event(CancelFlight {
        locator: flight.locator,
    })
}

fn book_room(State(trip): State<Trip>) -> Emit<BookRoom> {
    Emit::event(BookRoom {
        traveller: trip.traveller,
        city: trip.to,
    })
}

fn cancel_room(Output(room): Output<RoomBooked>) -> Emit<CancelRoom> {
    Emit::event(CancelRoom { room: room.room })
}

fn take_payment(State(trip): State<Trip>) -> Emit<TakePayment> {
    Emit::event(TakePayment {
        payer: trip.traveller,
        cents: trip.cents,
    })
}

fn refund(Output(payment): Output<PaymentTaken>) -> Emit<Refund> {
    Emit::event(Refund {
        receipt: payment.receipt,
    })
}

fn confirm(
    State(trip): State<Trip>,
    Output(flight): Output<FlightBooked>,
    Output(room): Output<RoomBooked>,
) -> Emit<SendConfirmation> {
    Emit::event(SendConfirmation {
        to: trip.traveller,
        text: format!("{}: flight {}, room {}", trip.to, flight.locator, room.room),
    })
}

// How it is done: effects, which touch the world. The key tells the world which calls are one and the same.

async fn at_the_airline(
    Req(flight): Req<BookFlight>,
    Dep(world): Dep<World>,
    key: IdempotencyKey,
) -> FlightBooked {
    tokio::time::sleep(Duration::from_millis(60)).await;
    world.happens(format!(
        "a seat for {} to {} (key {key})",
        flight.traveller, flight.to
    ));
    FlightBooked {
        locator: format!("{}-7A", flight.to.to_uppercase()),
    }
}

async fn off_the_plane(Req(flight): Req<CancelFlight>, Dep(world): Dep<World>) {
    world.happens(format!("seat {} given back", flight.locator));
}

async fn at_the_hotel(
    Req(room): Req<BookRoom>,
    Dep(world): Dep<World>,
) -> Result<RoomBooked, EffectError> {
    tokio::time::sleep(Duration::from_millis(40)).await;
    if room.city == "Atlantis" {
        // Trying again would not help.
        return Err(EffectError::permanent("no room left"));
    }
    world.happens(format!("a room for {} in {}", room.traveller, room.city));
    Ok(RoomBooked { room: 12 })
}

async fn out_of_the_hotel(Req(room): Req<CancelRoom>, Dep(world): Dep<World>) {
    world.happens(format!("room {} given back", room.room));
}

async fn at_the_bank(Req(payment): Req<TakePayment>, Dep(world): Dep<World>) -> PaymentTaken {
    world.happens(format!("{} cents of {}", payment.cents, payment.payer));
    PaymentTaken {
        receipt: format!("receipt {}", payment.cents),
    }
}

async fn back_to_the_payer(Req(refund): Req<Refund>, Dep(world): Dep<World>) {
    world.happens(format!("{} paid back", refund.receipt));
}

async fn by_mail(Req(mail): Req<SendConfirmation>, Dep(world): Dep<World>) {
    world.happens(format!("a mail to {}: {}", mail.to, mail.text));
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let topology = TravelBooking::builder().dep(World::default()).build()?;
    let runner = SagaRunner::new(topology.clone(), store.clone());
    // Goes on with what the runner below leaves: what has to wait, and what a crash leaves behind.
    let worker = SagaWorker::builder(store).saga(&topology).spawn().await?;

    let mut outcomes = Vec::new();
    for (instance, to) in [("ada-1", "Lisbon"), ("ada-2", "Atlantis")] {
        println!("a trip to {to}:");
        let trip = Trip {
            traveller: "Ada".into(),
            to: to.into(),
            cents: 84_000,
        };
        runner.start(instance, trip).await?;
        let ended = runner
            .wait_until_ended(instance, Duration::from_secs(20))
            .await?;
        println!("  {ended}");
        outcomes.push(ended);
    }
    worker.shutdown().await;

    for instance in ["ada-1", "ada-2"] {
        println!("\n{}", runner.describe(instance).await?);
        println!("\n{}", runner.mermaid_instance(instance).await?);
    }
    assert_eq!(outcomes, [SagaStatus::Completed, SagaStatus::Compensated]);
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
