//! Whole typed sagas, driven by the engine without a database.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use mire_client::EventData;
use mire_sagas::{
    Cause, ChildEnded, EffectError, Emit, Output, Req, Saga, SagaBuilder, Simulation, Start, State,
    StepStatus, UndoStatus, child, comp, for_each, task,
};
use serde::{Deserialize, Serialize};

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
    Hold "item.hold" { item: String }
    Held "item.held" { item: String }
    Release "items.release" { items: Vec<String>, why: String }
    AskManager "manager.ask" {}
    Approved "manager.approved" { by: String }
    Cancel "order.cancel" {}
}

#[derive(Serialize, Deserialize)]
struct Order {
    items: Vec<String>,
    needs_approval: bool,
}

#[derive(Serialize, Deserialize)]
struct Approval(String);

fn items(State(order): State<Order>) -> Vec<String> {
    order.items
}
async fn hold(Req(request): Req<Hold>) -> Held {
    Held { item: request.item }
}
fn release(held: Option<Output<Vec<String>>>, cause: Cause) -> Emit<Release> {
    let items = held.map_or(Vec::new(), |Output(items)| items);
    Emit::event(Release {
        items,
        why: cause.to_string(),
    })
}
async fn let_go(Req(_): Req<Release>) {}
fn ask() -> Emit<AskManager> {
    Emit::event(AskManager {})
}
fn ship(Output(held): Output<Vec<String>>, approval: Option<Output<Approval>>) -> Start<Shipping> {
    let by = approval.map_or("nobody".to_owned(), |Output(approval)| approval.0);
    Start::new(format!("{} by {by}", held.join("+")), ())
}

struct Shipping;
impl Saga for Shipping {
    type State = ();
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
        let holds = for_each(items, |item| Hold { item })
            .effect(hold)
            .on_each_response(|held: Held| held.item)
            .compensate(comp(release).effect(let_go).even_if_active());
        saga.step("hold", holds)
            .step(
                "approve",
                task(ask)
                    .after("hold")
                    .gated_by_state(|order: &Order| order.needs_approval)
                    .on_response(|approved: Approved| Approval(approved.by))
                    .timeout(Duration::from_secs(60)),
            )
            .step(
                "ship",
                child(ship).after_any_of(["approve", "hold"]).after("hold"),
            )
            .step(
                "done",
                task(|Output(ended): Output<ChildEnded>| ended.error)
                    .after("ship")
                    .terminal_success(),
            )
            .signal::<Approved>()
            .routes_to_step("approve")
            .signal::<Cancel>()
            .triggers_compensation()
            .allow_unhandled::<AskManager>()
    }
}

fn selling(items: &[&str], needs_approval: bool) -> Simulation {
    let items = items.iter().map(ToString::to_string).collect();
    let order = Order {
        items,
        needs_approval,
    };
    Selling::topology()
        .unwrap()
        .simulate(Start::new("o-1", order))
        .effect(|hold: Hold| match hold.item.as_str() {
            "ghost" => Err(EffectError::permanent("no such item")),
            _ => Ok(Held { item: hold.item }),
        })
        .effect(|release: Release| -> Result<(), EffectError> {
            assert!(!release.why.is_empty());
            Ok(())
        })
}

#[test]
fn a_fan_out_joins_and_a_child_follows() {
    let mut selling = selling(&["chair", "lamp"], false);
    selling.run();
    assert_eq!(selling.step_status("hold"), StepStatus::Completed);
    assert_eq!(selling.step_status("approve"), StepStatus::Skipped);
    assert_eq!(selling.outbox(), ["selling/o-1/ship/1/0"]);
    selling.answer_raw("ship", serde_json::json!({"outcome": "completed"}));
    assert_eq!(selling.status(), "completed");
}

#[test]
fn a_fan_out_over_nothing_gives_an_empty_list() {
    let mut selling = selling(&[], false);
    selling.run();
    assert_eq!(selling.step_status("hold"), StepStatus::Completed);
    assert_eq!(selling.fault(), None);
}

#[test]
fn a_child_that_does_not_complete_turns_its_parent_back() {
    let mut selling = selling(&["chair"], false);
    selling.run();
    selling.answer_raw(
        "ship",
        serde_json::json!({"outcome": "failed", "error": "no van"}),
    );
    assert_eq!(selling.status(), "compensated");
    assert_eq!(selling.undo_status("hold"), UndoStatus::Done);
    assert!(
        selling.history().contains("the child ended failed: no van"),
        "{}",
        selling.history()
    );
}

#[test]
fn what_half_a_fan_out_has_done_is_undone() {
    let mut selling = selling(&["chair", "ghost"], false);
    selling.run();
    assert_eq!(selling.status(), "compensated");
    assert_eq!(selling.undo_status("hold"), UndoStatus::Done);
}

#[test]
fn an_early_signal_answers_its_step() {
    let mut selling = selling(&["chair"], true);
    selling.signal(Approved { by: "ada".into() });
    selling.run();
    assert_eq!(selling.step_status("approve"), StepStatus::Completed);
}

#[test]
fn a_cancel_signal_turns_the_instance_back() {
    let mut selling = selling(&["chair"], true);
    selling.run();
    selling.signal(Cancel {});
    assert_eq!(selling.step_status("approve"), StepStatus::Abandoned);
    assert_eq!(selling.undo_status("hold"), UndoStatus::Done);
}
