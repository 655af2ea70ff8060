//! The saga of these tests.

use std::time::Duration;

use mire_client::EventData;
use mire_sagas::{
    Cause, ChildEnded, Data, Dep, EffectError, Emit, IdempotencyKey, Outcome, Output, Req, Saga,
    SagaBuilder, Start, State, Testing, Trigger, child, comp, for_each, task,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) items: Vec<String>,
    pub(crate) cents: i64,
}

macro_rules! events {
    ($($name:ident $kind:literal { $($field:ident: $type:ty),* })*) => {$(
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, EventData)]
        #[event_data(event_type = $kind)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
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
pub(crate) enum Check {
    Passed {
        score: u8,
    },
    #[event_data(alias = "check.refused")]
    Failed {
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Seat {
    #[serde(rename = "seat.taken")]
    Taken {
        row: u8,
    },
    Free,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reserved(pub(crate) String);
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score(pub(crate) u8);
pub(crate) struct Limit(pub(crate) i64);
pub(crate) struct Inventory(pub(crate) &'static str);

pub(crate) fn reserve(State(order): State<Order>, Trigger(placed): Trigger<Placed>) -> Emit<Hold> {
    assert_eq!(order.items.len(), 2);
    Emit::event(Hold { item: placed.item }).timeout(Duration::from_secs(5))
}

pub(crate) async fn hold(
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

pub(crate) fn release(Output(reserved): Output<Reserved>, cause: Cause) -> Emit<Release> {
    Emit::event(Release {
        hold: reserved.0,
        why: cause.to_string(),
    })
}

pub(crate) async fn let_go(Req(_): Req<Release>) -> Released {
    Released {}
}

pub(crate) fn pay(
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

pub(crate) fn parcel(State(order): State<Order>) -> Start<Shipping> {
    Start::new("p-1", order.cents)
}

pub(crate) struct Shipping;
impl Saga for Shipping {
    type State = i64;
    const NAME: &'static str = "shipping";
    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step("ship", task(|| ()).terminal_success())
    }
}

pub(crate) struct Selling;
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

pub(crate) fn testing() -> Testing<Selling> {
    let items = vec!["chair".to_owned(), "lamp".to_owned()];
    Testing::of::<Selling>(Order { items, cents: 500 }).dep(Limit(9))
}
