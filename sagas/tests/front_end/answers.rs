//! Effects, and what becomes of answers.

use mire_client::EventData;
use serde::{Deserialize, Serialize};

use crate::saga::*;

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
