//! What functions see, and what they come to.

use std::time::Duration;

use mire_sagas::{
    Cause, ChildEnded, Outcome, Output, Saga, SagaBuilder, State, Testing, Trigger, task,
};

use crate::saga::*;

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

#[test]
#[should_panic(expected = "cannot be read as Order (missing field `items`)")]
fn what_does_not_fit_is_named_without_what_is_in_it() {
    struct Other;
    impl Saga for Other {
        type State = serde_json::Value;
        const NAME: &'static str = "other";
        fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
            saga.step(
                "end",
                task(|Trigger(_): Trigger<Order>| ()).terminal_success(),
            )
        }
    }
    let _ = Testing::of::<Other>(serde_json::json!(1))
        .trigger(&serde_json::json!({"cents": 7}))
        .decide("end");
}

#[test]
fn eight_parameters_are_possible() {
    type S = State<Order>;
    #[allow(clippy::too_many_arguments)] // as many as there can be
    fn eight(a: S, _: S, _: S, _: S, _: S, _: S, _: S, h: S) -> bool {
        a.0 == h.0
    }
    struct Many;
    impl Saga for Many {
        type State = Order;
        const NAME: &'static str = "many";
        fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
            saga.step("end", task(eight).gated_by(eight).terminal_success())
        }
    }
    let testing = Testing::of::<Many>(Order {
        items: vec![],
        cents: 0,
    });
    assert!(testing.is_open("end") && testing.decide("end").value::<bool>());
}
