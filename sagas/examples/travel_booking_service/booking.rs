//! The saga: flight and hotel at the same time over HTTP, then the payment through the outbox, then the confirmation.

use std::time::Duration;

use mire_client::EventData;
use mire_sagas::{
    Answer, Dep, EffectError, Emit, EmitPublisher, IdempotencyKey, OutboxMessage, Output,
    PublishError, Published, Req, RetryPolicy, Saga, SagaBuilder, Start, State, comp, task,
};
use serde::{Deserialize, Serialize};

use super::client::{Client, Reply};

/// What an instance starts with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trip {
    /// What the provider knows it by; also the name of the instance.
    pub(crate) id: String,
    pub(crate) to: String,
    pub(crate) cents: i64,
    /// How long the payment may take.
    pub(crate) pay_within_ms: u64,
}

/// Somebody wants to travel: an event of another program, which starts an instance.
#[derive(Clone, Debug, Serialize, Deserialize, EventData)]
#[event_data(event_type = "trip.requested")]
pub(crate) struct TripRequested {
    pub(crate) trip: Trip,
}

/// A signal: the traveller stays at home.
#[derive(Clone, Debug, Serialize, Deserialize, EventData)]
#[event_data(event_type = "trip.called-off")]
pub(crate) struct TripCalledOff {
    pub(crate) why: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "flight.book")]
pub(crate) struct BookFlight {
    trip: String,
    to: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "flight.booked")]
pub(crate) struct FlightBooked {
    number: u64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "flight.cancel")]
pub(crate) struct CancelFlight {
    trip: String,
    number: u64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "room.book")]
pub(crate) struct BookRoom {
    trip: String,
    city: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "room.booked")]
pub(crate) struct RoomBooked {
    number: u64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "room.cancel")]
pub(crate) struct CancelRoom {
    trip: String,
    number: u64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.take")]
pub(crate) struct TakePayment {
    trip: String,
    cents: i64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.taken")]
pub(crate) struct PaymentTaken {
    pub(crate) number: u64,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.refund")]
pub(crate) struct Refund {
    trip: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment.refunded")]
pub(crate) struct Refunded {}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "confirmation.send")]
pub(crate) struct Confirm {
    trip: String,
    text: String,
}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "confirmation.withdraw")]
pub(crate) struct Withdraw {
    trip: String,
}

pub(crate) struct TravelBooking;

impl Saga for TravelBooking {
    type State = Trip;
    const NAME: &'static str = "travel_booking_service";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.start_on_event(|requested: &TripRequested, _| {
            let trip = requested.trip.clone();
            Some(Start::new(trip.id.clone(), trip))
        })
        .step(
            "flight",
            task(book_flight)
                .effect(at_the_airline)
                .retry(patient())
                .on_response(|booked: FlightBooked| booked)
                .compensate(comp(cancel_flight).effect(off_the_plane).retry(stubborn())),
        )
        .step(
            "hotel",
            task(book_room)
                .effect(at_the_hotel)
                .retry(patient())
                .on_response(|booked: RoomBooked| booked)
                .compensate(comp(cancel_room).effect(out_of_the_hotel).retry(stubborn())),
        )
        .step(
            "payment",
            task(take_payment)
                .after(["flight", "hotel"])
                .on_response(|taken: PaymentTaken| taken)
                // When nobody knows whether the money has gone, it is asked back all the same.
                .compensate(comp(refund).even_if_active().on_response::<Refunded>()),
        )
        .step(
            "confirmation",
            task(confirm)
                .after("payment")
                .effect(by_mail)
                .retry(patient())
                .terminal_success()
                .compensate(comp(withdraw).effect(by_another_mail).retry(stubborn())),
        )
        .signal::<TripCalledOff>()
        .triggers_compensation()
        .allow_unhandled::<TakePayment>()
        .allow_unhandled::<Refund>()
    }
}

/// The provider fails often; it is right again soon.
fn patient() -> RetryPolicy {
    RetryPolicy::default()
        .attempts(60)
        .backoff(Duration::from_millis(20), Duration::from_millis(500))
}

/// An undo that gives up needs a person.
fn stubborn() -> RetryPolicy {
    patient().attempts(1_000)
}

// What is to be done.

fn book_flight(State(trip): State<Trip>) -> Emit<BookFlight> {
    Emit::event(BookFlight {
        trip: trip.id,
        to: trip.to,
    })
}

fn cancel_flight(
    State(trip): State<Trip>,
    Output(flight): Output<FlightBooked>,
) -> Emit<CancelFlight> {
    Emit::event(CancelFlight {
        trip: trip.id,
        number: flight.number,
    })
}

fn book_room(State(trip): State<Trip>) -> Emit<BookRoom> {
    Emit::event(BookRoom {
        trip: trip.id,
        city: trip.to,
    })
}

fn cancel_room(State(trip): State<Trip>, Output(room): Output<RoomBooked>) -> Emit<CancelRoom> {
    Emit::event(CancelRoom {
        trip: trip.id,
        number: room.number,
    })
}

fn take_payment(State(trip): State<Trip>) -> Emit<TakePayment> {
    Emit::event(TakePayment {
        trip: trip.id,
        cents: trip.cents,
    })
    .timeout(Duration::from_millis(trip.pay_within_ms))
}

fn refund(State(trip): State<Trip>) -> Emit<Refund> {
    Emit::event(Refund { trip: trip.id })
}

fn confirm(
    State(trip): State<Trip>,
    Output(flight): Output<FlightBooked>,
    Output(room): Output<RoomBooked>,
    Output(payment): Output<PaymentTaken>,
) -> Emit<Confirm> {
    let text = format!(
        "{}: flight {}, room {}, receipt {}",
        trip.to, flight.number, room.number, payment.number
    );
    Emit::event(Confirm {
        trip: trip.id,
        text,
    })
}

fn withdraw(State(trip): State<Trip>) -> Emit<Withdraw> {
    Emit::event(Withdraw { trip: trip.id })
}

// How it is done in the workers' processes.

/// The number, or why not.
fn number(reply: Reply) -> Result<u64, EffectError> {
    match reply {
        Reply::Done(number) => Ok(number),
        Reply::Refused(why) => Err(EffectError::permanent(why)),
        Reply::Later => Err(EffectError::transient("not decided yet")),
    }
}

async fn at_the_airline(
    Req(flight): Req<BookFlight>,
    Dep(client): Dep<Client>,
    key: IdempotencyKey,
) -> Result<FlightBooked, EffectError> {
    let reply = client.book("flight", &flight.trip, &flight, key.as_str());
    let number = number(reply.await?)?;
    Ok(FlightBooked { number })
}

async fn off_the_plane(
    Req(flight): Req<CancelFlight>,
    Dep(client): Dep<Client>,
    key: IdempotencyKey,
) -> Result<(), EffectError> {
    let reply = client.cancel("flight", &flight.trip, key.as_str()).await?;
    number(reply).map(|_| ())
}

async fn at_the_hotel(
    Req(room): Req<BookRoom>,
    Dep(client): Dep<Client>,
    key: IdempotencyKey,
) -> Result<RoomBooked, EffectError> {
    let reply = client.book("hotel", &room.trip, &room, key.as_str());
    let number = number(reply.await?)?;
    Ok(RoomBooked { number })
}

async fn out_of_the_hotel(
    Req(room): Req<CancelRoom>,
    Dep(client): Dep<Client>,
    key: IdempotencyKey,
) -> Result<(), EffectError> {
    let reply = client.cancel("hotel", &room.trip, key.as_str()).await?;
    number(reply).map(|_| ())
}

async fn by_mail(
    Req(mail): Req<Confirm>,
    Dep(client): Dep<Client>,
    key: IdempotencyKey,
) -> Result<(), EffectError> {
    let reply = client.book("confirmation", &mail.trip, &mail, key.as_str());
    number(reply.await?).map(|_| ())
}

async fn by_another_mail(
    Req(mail): Req<Withdraw>,
    Dep(client): Dep<Client>,
    key: IdempotencyKey,
) -> Result<(), EffectError> {
    let reply = client
        .cancel("confirmation", &mail.trip, key.as_str())
        .await?;
    number(reply).map(|_| ())
}

/// Takes payments and refunds from the outbox to the bank, which answers at once, or calls back later.
pub(crate) struct Payments(pub(crate) Client);

impl EmitPublisher for Payments {
    async fn publish(&self, message: &OutboxMessage) -> Result<Published, PublishError> {
        let unreadable = |error: mire_sagas::Error| PublishError::permanent(error.to_string());
        let (reply, answer) = match message.kind.as_str() {
            "payment.take" => {
                let request: TakePayment = message.data_as().map_err(unreadable)?;
                let (trip, key) = (&request.trip, &message.key);
                let reply = self.0.book("payment", trip, &request, key).await?;
                let taken = |number| Answer::response(PaymentTaken { number });
                (reply, Box::new(taken) as Box<dyn Fn(u64) -> _ + Send>)
            }
            "payment.refund" => {
                let request: Refund = message.data_as().map_err(unreadable)?;
                let reply = self.0.cancel("payment", &request.trip, &message.key);
                let refunded = |_| Answer::response(Refunded {});
                (reply.await?, Box::new(refunded) as Box<_>)
            }
            unknown => {
                let what = format!("nobody takes a {unknown}");
                return Err(PublishError::permanent(what));
            }
        };
        Ok(match reply {
            Reply::Done(number) => Published::answered(answer(number)?),
            Reply::Refused(why) => Published::answered(Answer::failure(why)),
            Reply::Later => Published::sent(),
        })
    }
}
