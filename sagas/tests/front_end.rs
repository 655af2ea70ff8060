//! Decides, gates, effects and answers, each by itself.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use mire_client::EventData;
use mire_sagas::{
    Cause, ChildEnded, Data, Dep, EffectError, Emit, IdempotencyKey, Outcome, Output, Req, Saga,
    SagaBuilder, Start, State, Testing, Trigger, child, comp, for_each, task,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    items: Vec<String>,
    cents: i64,
}

macro_rules! events {
    ($($name:ident $kind:literal { $($field:ident: $type:ty),* })*) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, EventData)]
        #[event_data(event_type = $kind)]
        struct $name {
            $($field: $type,)*
        }
    )*};
}
events! {
    Placed "order.placed" { item: String }
    Hold "item.hold" { item: String }
    Held "item.held" { hold: String }
    SoldOut "item.sold-out" { item: String }
    Release "item.release" { hold: String, why: String }
    Released "item.released" {}
    Pay "payment.capture" { cents: i64, limit: i64 }
}

/// Several events of one type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(entity = "check")]
enum Check {
    Passed {
        score: u8,
    },
    #[event_data(alias = "check.refused")]
    Failed {
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Seat {
    #[serde(rename = "seat.taken")]
    Taken {
        row: u8,
    },
    Free,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reserved(String);
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Score(u8);
struct Limit(i64);
struct Inventory(&'static str);

fn reserve(State(order): State<Order>, Trigger(placed): Trigger<Placed>) -> Emit<Hold> {
    assert_eq!(order.items.len(), 2);
    Emit::event(Hold { item: placed.item }).timeout(Duration::from_secs(5))
}

async fn hold(
    key: IdempotencyKey,
    Req(request): Req<Hold>,
    Dep(inventory): Dep<Inventory>,
) -> Result<Held, EffectError> {
    if request.item == "none" {
        return Err(EffectError::permanent("no such item"));
    }
    let shelf = inventory.0;
    Ok(Held {
        hold: format!("{}/{shelf}/{key}", request.item),
    })
}

fn release(Output(reserved): Output<Reserved>, cause: Cause) -> Emit<Release> {
    Emit::event(Release {
        hold: reserved.0,
        why: cause.to_string(),
    })
}

async fn let_go(Req(_): Req<Release>) -> Released {
    Released {}
}

fn pay(
    State(order): State<Order>,
    Output(_): Output<Reserved>,
    score: Option<Output<Score>>,
    Dep(limit): Dep<Limit>,
) -> Emit {
    match score {
        Some(Output(score)) if score.0 == 0 => Emit::none(),
        _ => Emit::event(Pay {
            cents: order.cents,
            limit: limit.0,
        }),
    }
}

fn parcel(State(order): State<Order>) -> Start<Shipping> {
    Start::new("p-1", order.cents)
}

struct Shipping;
impl Saga for Shipping {
    type State = i64;
    const NAME: &'static str = "shipping";
    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step("ship", task(|| ()).terminal_success())
    }
}

struct Selling;
impl Saga for Selling {
    type State = Order;
    const NAME: &'static str = "selling";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.start_on_event::<Placed>(|placed, from| {
            (from.id() != "7").then(|| {
                let items = vec![placed.item.clone()];
                Start::new(from.id(), Order { items, cents: 1 })
            })
        })
        .step(
            "reserve",
            task(reserve)
                .effect(hold)
                .on_response(|held: Held| Reserved(held.hold))
                .compensate(comp(release).effect(let_go).on_response::<Released>()),
        )
        .step(
            "check",
            task(|| -> Emit {
                Emit::event(Hold {
                    item: String::new(),
                })
            })
            .try_on_response(|check: Check| match check {
                Check::Passed { score } => Ok(Score(score)),
                Check::Failed { why } => Err(why),
            }),
        )
        .step(
            "either",
            task(|| -> Emit { Emit::none() }).on_response(|answer: Result<Held, SoldOut>| {
                answer
                    .map(|held| held.hold)
                    .map_err(|out| format!("no {} left", out.item))
            }),
        )
        .step(
            "seat",
            task(|| -> Emit { Emit::none() }).on_response(|Data(seat): Data<Seat>| seat),
        )
        .step(
            "each",
            for_each(
                |State(order): State<Order>| order.items,
                |item| Hold { item },
            )
            .effect(hold)
            .on_each_response(|held: Held| held.hold),
        )
        .step(
            "pay",
            task(pay)
                .after("reserve")
                .after_any_of(["check", "reserve"]),
        )
        .step(
            "ship",
            child(parcel)
                .after("pay")
                .gated_by_state(|order: &Order| order.cents > 0),
        )
        .step(
            "done",
            task(|Output(ended): Output<ChildEnded>| format!("{:?}", ended.outcome))
                .gated_by(
                    |Output(ended): Output<ChildEnded>, Dep(limit): Dep<Limit>| {
                        ended.outcome == Outcome::Completed && limit.0 > 0
                    },
                )
                .after("ship")
                .terminal_success(),
        )
        .allow_unhandled::<Hold>()
    }
}

fn testing() -> Testing<Selling> {
    let items = vec!["chair".to_owned(), "lamp".to_owned()];
    Testing::of::<Selling>(Order { items, cents: 500 }).dep(Limit(9))
}

#[test]
fn the_saga_of_these_tests_is_sound() {
    let topology = Selling::builder().dep(Limit(9)).dep(Inventory("a")).build();
    assert_eq!(topology.unwrap().steps().count(), 8);
}

#[test]
fn a_step_sees_state_and_trigger() {
    let placed = Placed {
        item: "chair".into(),
    };
    let decision = testing().trigger(&placed).decide("reserve");
    assert_eq!(decision.request::<Hold>().item, "chair");
    assert_eq!(decision.timeout(), Some(Duration::from_secs(5)));
}

#[test]
#[should_panic(expected = "started without a trigger")]
fn a_trigger_that_is_not_there_is_said_to_be_missing() {
    let _ = testing().decide("reserve");
}

#[test]
fn a_step_sees_outputs_and_dependencies() {
    let reserved = testing().output(Reserved("h".into()));
    let pay: Pay = reserved.decide("pay").request();
    assert_eq!(
        pay,
        Pay {
            cents: 500,
            limit: 9
        }
    );
    let decision = reserved.output(Score(0)).decide("pay");
    assert!(decision.kinds().is_empty());
}

#[test]
#[should_panic(expected = "there is no output Reserved")]
fn an_output_that_is_not_there_is_said_to_be_missing() {
    let _ = testing().decide("pay");
}

#[test]
fn a_step_that_had_nothing_to_do_has_no_output() {
    let nothing: Option<Reserved> = None; // what Emit::none() leaves: null
    struct Idle;
    impl Saga for Idle {
        type State = ();
        const NAME: &'static str = "idle";
        fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
            saga.step("give", task(|| -> Option<Reserved> { None }))
                .step(
                    "take",
                    task(|o: Option<Output<Option<Reserved>>>| o.is_some())
                        .after("give")
                        .terminal_success(),
                )
        }
    }
    let seen: bool = Testing::of::<Idle>(())
        .output(nothing)
        .decide("take")
        .value();
    assert!(seen, "null is a value of Option");
}

#[test]
fn an_undo_sees_its_own_output_and_the_cause() {
    let cause = Cause::StepFailed {
        step: "pay".into(),
        error: "declined".into(),
    };
    let decision = testing()
        .output(Reserved("h".into()))
        .cause(cause)
        .undo("reserve");
    let release: Release = decision.request();
    assert_eq!(release.hold, "h");
    assert!(release.why.contains("declined"), "{}", release.why);
}

#[test]
fn gates_see_state_outputs_and_dependencies() {
    assert!(testing().is_open("ship"));
    let poor = Order {
        items: vec![],
        cents: 0,
    };
    assert!(!Testing::of::<Selling>(poor).is_open("ship"));
    let ended = |outcome| testing().output(ChildEnded::new(outcome));
    assert!(ended(Outcome::Completed).is_open("done"));
    assert!(!ended(Outcome::Cancelled).is_open("done"));
    assert!(!ended(Outcome::Completed).dep(Limit(0)).is_open("done"));
}

#[test]
fn a_value_is_given_at_once() {
    let done: String = testing()
        .output(ChildEnded::new(Outcome::Failed))
        .decide("done")
        .value();
    assert_eq!(done, "Failed");
}

#[tokio::test]
async fn an_effect_takes_its_parameters_in_any_order() {
    let testing = testing().dep(Inventory("left"));
    let held: Held = testing
        .call(
            "reserve",
            Hold {
                item: "chair".into(),
            },
        )
        .await
        .unwrap();
    assert_eq!(held.hold, "chair/left/test");
    let failed = testing
        .call::<Held>(
            "reserve",
            Hold {
                item: "none".into(),
            },
        )
        .await;
    assert!(failed.unwrap_err().is_permanent());
    let release = Release {
        hold: String::new(),
        why: String::new(),
    };
    let _: Released = testing.call_undo("reserve", release).await.unwrap();
}

#[tokio::test]
async fn an_effect_without_its_dependency_fails_and_may_succeed_later() {
    let failed = testing()
        .call::<Held>(
            "reserve",
            Hold {
                item: "chair".into(),
            },
        )
        .await;
    let error = failed.unwrap_err();
    assert!(
        !error.is_permanent() && error.message().contains("Inventory"),
        "{error}"
    );
}

#[test]
fn an_answer_becomes_the_output() {
    let output: Reserved = testing()
        .respond("reserve", Held { hold: "h".into() })
        .unwrap();
    assert_eq!(output, Reserved("h".into()));
}

#[test]
#[should_panic(expected = "its type \"item.sold-out\" is none of Held")]
fn an_answer_of_another_type_is_never_taken_for_the_right_one() {
    let _ = testing().respond::<Reserved>(
        "reserve",
        SoldOut {
            item: "chair".into(),
        },
    );
}

#[test]
fn an_event_type_with_several_events_is_told_apart_by_name() {
    let score: Score = testing()
        .respond("check", Check::Passed { score: 3 })
        .unwrap();
    assert_eq!(score, Score(3));
    let refused = testing().respond::<Score>("check", Check::Failed { why: "age".into() });
    assert_eq!(refused, Err("age".to_owned()));
}

#[test]
fn a_result_fails_the_step_with_its_error() {
    let hold: String = testing()
        .respond("either", Held { hold: "h".into() })
        .unwrap();
    assert_eq!(hold, "h");
    let refused = testing().respond::<String>(
        "either",
        SoldOut {
            item: "chair".into(),
        },
    );
    assert_eq!(refused, Err("no chair left".to_owned()));
}

#[test]
fn plain_data_is_told_by_its_shape_or_by_the_type_of_the_answer() {
    let seat: Seat = testing().respond_data("seat", &Seat::Free).unwrap();
    assert_eq!(seat, Seat::Free);

    #[derive(Serialize, Deserialize, EventData)]
    #[event_data(event_type = "seat.taken")]
    struct Taken {
        row: u8,
    }
    let seat: Seat = testing().respond("seat", Taken { row: 2 }).unwrap();
    assert_eq!(seat, Seat::Taken { row: 2 });
}

#[test]
fn a_fan_out_makes_one_request_an_item() {
    let holds: Vec<Hold> = testing().decide("each").requests();
    assert_eq!(holds.len(), 2);
    assert_eq!(holds[1].item, "lamp");
}

#[test]
fn a_child_is_a_start_and_fails_the_step_unless_it_completes() {
    let start = testing().decide("ship").start::<Shipping>();
    assert_eq!((start.instance(), *start.state()), ("p-1", 500));
    let ended = |outcome| testing().respond_data::<ChildEnded>("ship", &ChildEnded::new(outcome));
    assert_eq!(
        ended(Outcome::Completed).unwrap().outcome,
        Outcome::Completed
    );
    assert_eq!(
        ended(Outcome::Compensated).unwrap_err(),
        "the child ended compensated"
    );
}
