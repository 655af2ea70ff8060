//! Drawings, descriptions and histories, as agreed on in `tests/golden`. `MIRE_UPDATE_GOLDEN=1` writes them anew; the diff is then
//! for a reviewer to judge.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use mire_client::EventData;
use mire_sagas::{
    Cause, Emit, Output, Req, Saga, SagaBuilder, SagaTopology, Simulation, Start, State,
    StepStates, StepStatus, UndoStatus, child, comp, for_each, task,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Trip {
    id: String,
    cents: i64,
    tours: Vec<String>,
}

macro_rules! events {
    ($($name:ident $kind:literal),*) => {$(
        #[derive(Serialize, Deserialize, EventData)]
        #[event_data(event_type = $kind)]
        struct $name {
            id: String,
        }
    )*};
}
events!(
    HoldFlight "flight.hold", FlightHeld "flight.held", FreeFlight "flight.free", HoldHotel "hotel.hold",
    HotelHeld "hotel.held", BookTour "tour.book", TourBooked "tour.booked", Pay "payment.capture",
    Paid "payment.captured", Refund "payment.refund", Cancel "trip.cancel"
);

#[derive(Serialize, Deserialize)]
struct Flight(String);
#[derive(Serialize, Deserialize)]
struct Hotel(String);
#[derive(Serialize, Deserialize)]
struct Settled(String);

fn flight(State(trip): State<Trip>) -> Emit<HoldFlight> {
    Emit::event(HoldFlight { id: trip.id })
}
async fn hold_flight(Req(r): Req<HoldFlight>) -> FlightHeld {
    FlightHeld { id: r.id }
}
fn free_flight(Output(flight): Output<Flight>) -> Emit<FreeFlight> {
    Emit::event(FreeFlight { id: flight.0 })
}
async fn let_go(Req(_): Req<FreeFlight>) {}
fn hotel(State(trip): State<Trip>) -> Emit<HoldHotel> {
    Emit::event(HoldHotel { id: trip.id })
}
async fn hold_hotel(Req(r): Req<HoldHotel>) -> HotelHeld {
    HotelHeld { id: r.id }
}
fn tours(State(trip): State<Trip>) -> Vec<String> {
    trip.tours
}
async fn book_tour(Req(r): Req<BookTour>) -> TourBooked {
    TourBooked { id: r.id }
}
fn pay(State(trip): State<Trip>, Output(_): Output<Flight>) -> Emit<Pay> {
    Emit::event(Pay { id: trip.id })
}
fn refund(settled: Option<Output<Settled>>, _: Cause) -> Emit<Refund> {
    settled.map_or_else(Emit::none, |Output(s)| Emit::event(Refund { id: s.0 }))
}
fn is_costly(trip: &Trip) -> bool {
    trip.cents > 100_000
}
fn review(State(trip): State<Trip>) -> Start<Reviewing> {
    Start::new(trip.id, ())
}

struct Reviewing;
impl Saga for Reviewing {
    type State = ();
    const NAME: &'static str = "reviewing";
    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step("review", task(|| ()).terminal_success())
    }
}

struct Travel;
impl Saga for Travel {
    type State = Trip;
    const NAME: &'static str = "travel";
    const VERSION: i32 = 2;

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step(
            "flight",
            task(flight)
                .effect(hold_flight)
                .on_response(|held: FlightHeld| Flight(held.id))
                .compensate(comp(free_flight).effect(let_go)),
        )
        .step(
            "hotel",
            task(hotel)
                .effect(hold_hotel)
                .on_response(|held: HotelHeld| Hotel(held.id)),
        )
        .step(
            "tours",
            for_each(tours, |id| BookTour { id })
                .effect(book_tour)
                .on_each_response(|booked: TourBooked| booked.id)
                .after("hotel"),
        )
        .step(
            "pay",
            task(pay)
                .on_response(|paid: Paid| Settled(paid.id))
                .timeout(Duration::from_secs(600))
                .after(["flight", "hotel"])
                .compensate(comp(refund).even_if_active()),
        )
        .step(
            "review",
            child(review).gated_by_state(is_costly).after("pay"),
        )
        .step(
            "decline",
            task(|| ())
                .after("pay")
                .gated_by(|Output(settled): Output<Settled>| settled.0 == "\"bad\"")
                .terminal_failure(),
        )
        .step(
            "confirm",
            task(|| "confirmed")
                .after("tours")
                .after_any_of(["review", "pay"])
                .terminal_success(),
        )
        .signal::<Cancel>()
        .triggers_compensation()
        .signal::<Paid>()
        .routes_to_step("pay")
        .allow_unhandled::<Pay>()
        .allow_unhandled::<Refund>()
    }
}

fn travel() -> SagaTopology<Travel> {
    Travel::topology().unwrap()
}

#[track_caller]
fn assert_golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var("MIRE_UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        agreed == actual,
        "{} is not what is there; if that is meant, MIRE_UPDATE_GOLDEN=1 writes it anew:\n{actual}",
        path.display()
    );
}

#[test]
fn a_topology_is_drawn() {
    assert_golden("travel.mmd", &travel().mermaid());
}

#[test]
fn a_topology_is_described_in_words() {
    assert_golden("travel.txt", &travel().describe());
}

#[test]
fn an_instance_is_drawn_in_colour() {
    let states = [
        ("flight", StepStatus::Completed, UndoStatus::Done),
        ("hotel", StepStatus::Completed, UndoStatus::None),
        ("tours", StepStatus::Abandoned, UndoStatus::None),
        ("pay", StepStatus::TimedOut, UndoStatus::Failed),
        ("review", StepStatus::Skipped, UndoStatus::None),
    ];
    let states = states.map(|(step, status, undo)| (step.to_owned(), (status, undo)));
    assert_golden(
        "travel_instance.mmd",
        &travel().mermaid_instance(&StepStates::from(states)),
    );
}

/// A trip without a database; every effect succeeds.
fn trip(cents: i64) -> Simulation {
    let trip = Trip {
        id: "t1".into(),
        cents,
        tours: vec!["castle".into(), "harbour".into()],
    };
    let mut trip = travel()
        .simulate(Start::new("t1", trip))
        .effect(|r: HoldFlight| Ok(FlightHeld { id: r.id }))
        .effect(|r: HoldHotel| Ok(HotelHeld { id: r.id }))
        .effect(|r: BookTour| Ok(TourBooked { id: r.id }))
        .effect(|_: FreeFlight| Ok(()));
    trip.run();
    trip
}

#[test]
fn a_trip_that_comes_about_has_this_history() {
    let mut trip = trip(5_000);
    trip.advance(Duration::from_secs(2))
        .signal(Paid { id: "p1".into() });
    assert_golden("travel_completes.txt", &trip.history());
}

#[test]
fn a_trip_that_is_not_paid_in_time_has_this_history() {
    let mut trip = trip(5_000);
    trip.advance(Duration::from_secs(600))
        .answer("pay", Paid { id: "late".into() })
        .answer_undo_raw("pay", serde_json::json!(null));
    assert_golden("travel_compensates.txt", &trip.history());
}

#[test]
fn the_names_of_steps_do_not_break_a_drawing() {
    struct Odd;
    impl Saga for Odd {
        type State = ();
        const NAME: &'static str = "odd";
        fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
            saga.step("a\"]#<b>`", task(|| ()).terminal_success())
        }
    }
    let drawing = Odd::topology().unwrap().mermaid();
    assert!(
        drawing.contains("s0[\"a#34;]#35;#60;b#62;#96;\"]"),
        "{drawing}"
    );
}
