//! The reference sagas on mire-sagas 0.4.0.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mire::{Aggregate, EventData, EventStore};
use mire_sagas::{
    Emit, EmitPublisher, OutboxMessage, Output, PgSagaRunner, PostgresSagaWakeTransport, Req, Saga,
    SagaBuilder, SagaWorker, Start, State, task,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Plan, Waiting, each_id, ended, ids};
use crate::side::{Ready, Side, Work};
use crate::stores::{Mire, Store};

/// What starts a saga.
#[derive(Clone, Debug, Serialize, Deserialize, EventData)]
#[mire(event_type = "order.placed")]
struct Placed {
    id: String,
}

#[derive(Default)]
struct Order;

impl Aggregate for Order {
    type Event = Placed;

    fn stream_category() -> &'static str {
        "order"
    }

    fn apply(&mut self, _: &Placed) {}
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Booking {
    id: String,
}

/// What a step has come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Done {
    reference: String,
}

macro_rules! messages {
    ($($name:ident is $kind:literal),* $(,)?) => {$(
        #[derive(Clone, Debug, Serialize, Deserialize, EventData)]
        #[mire(event_type = $kind)]
        struct $name {
            reference: String,
        }
    )*};
}

messages! {
    Reserve is "inventory.reserve",
    Reserved is "inventory.reserved",
    Capture is "payment.capture",
    Captured is "payment.captured",
    Ticket is "ticket.issue",
    Ticketed is "ticket.issued",
    First is "effect.first",
    Second is "effect.second",
    Third is "effect.third",
    Fourth is "effect.fourth",
    Affected is "effect.done",
}

fn start<S: Saga<State = Booking>>(placed: &Placed) -> Option<Start<S>> {
    let id = placed.id.clone();
    Some(Start {
        instance_id: id.clone(),
        state: Booking { id },
    })
}

/// Two steps that are answered from outside, an effect, and a value.
struct Trip;

fn reserve(State(booking): State<Booking>) -> Emit {
    Emit::event(Reserve {
        reference: booking.id,
    })
}

fn capture(State(booking): State<Booking>) -> Emit {
    Emit::event(Capture {
        reference: booking.id,
    })
}

fn ticket(State(booking): State<Booking>) -> Emit {
    Emit::event(Ticket {
        reference: booking.id,
    })
}

async fn issue(Req(ticket): Req<Ticket>) -> Ticketed {
    Ticketed {
        reference: ticket.reference,
    }
}

fn receipt(Output(done): Output<Done>) -> Receipt {
    Receipt(done.reference)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held(String);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Paid(String);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Receipt(String);

impl Saga for Trip {
    type State = Booking;

    fn name() -> &'static str {
        "trip"
    }

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.start_on::<Order, _>(start)
            .step(
                "reserve",
                task(reserve).on_response(|answer: Reserved| Held(answer.reference)),
            )
            .step(
                "pay",
                task(capture)
                    .after("reserve")
                    .on_response(|answer: Captured| Paid(answer.reference)),
            )
            .step(
                "ticket",
                task(ticket)
                    .after("pay")
                    .effect(issue)
                    .on_response(|answer: Ticketed| Done {
                        reference: answer.reference,
                    }),
            )
            .step("receipt", task(receipt).after("ticket").terminal_success())
    }
}

/// Four effects, one after the other.
struct Effects;

macro_rules! effects {
    ($($step:ident, $effect:ident: $request:ident),* $(,)?) => {$(
        fn $step(State(booking): State<Booking>) -> Emit {
            Emit::event($request { reference: booking.id })
        }

        async fn $effect(Req(request): Req<$request>) -> Affected {
            Affected { reference: request.reference }
        }
    )*};
}

effects! {
    first, do_first: First,
    second, do_second: Second,
    third, do_third: Third,
    fourth, do_fourth: Fourth,
}

macro_rules! outputs {
    ($($name:ident),*) => {$(
        #[derive(Clone, Debug, Serialize, Deserialize)]
        struct $name(String);
    )*};
}

outputs!(One, Two, Three, Four);

impl Saga for Effects {
    type State = Booking;

    fn name() -> &'static str {
        "effects"
    }

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.start_on::<Order, _>(start)
            .step(
                "first",
                task(first)
                    .effect(do_first)
                    .on_response(|done: Affected| One(done.reference)),
            )
            .step(
                "second",
                task(second)
                    .after("first")
                    .effect(do_second)
                    .on_response(|done: Affected| Two(done.reference)),
            )
            .step(
                "third",
                task(third)
                    .after("second")
                    .effect(do_third)
                    .on_response(|done: Affected| Three(done.reference)),
            )
            .step(
                "fourth",
                task(fourth)
                    .after("third")
                    .effect(do_fourth)
                    .on_response(|done: Affected| Four(done.reference))
                    .terminal_success(),
            )
    }
}

fn runner<S: Saga>(store: &EventStore) -> PgSagaRunner<S> {
    PgSagaRunner::new(S::build(SagaBuilder::for_saga()), store.clone())
}

type Runner<S> = Arc<PgSagaRunner<S>>;

async fn trigger<S: Saga>(runner: &PgSagaRunner<S>, id: &str) -> Result<()> {
    let placed = Placed { id: id.to_owned() };
    let started = runner.trigger::<Order>(&placed).await?;
    ensure!(started.as_deref() == Some(id), "{id} was not started");
    Ok(())
}

/// Fails unless each of these has succeeded.
async fn check<S: Saga>(store: &EventStore, ids: Vec<Vec<String>>) -> Result<()> {
    let runner = runner::<S>(store);
    for id in ids.concat() {
        ensure!(runner.is_succeeded(&id).await?, "{id} has not succeeded");
    }
    Ok(())
}

/// A side whose sagas are carried out by `drive`, after a few that are not counted.
fn driven<S, F, Fut>(plan: Plan, drive: F) -> Side
where
    S: Saga,
    F: Fn(Runner<S>, String) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Side::new(move |world| {
        let drive = drive.clone();
        async move {
            let store = Mire::open(&world, Mire::DATABASE).await?.0;
            let runner = Arc::new(runner::<S>(&store));
            let drive = move |id| drive(Arc::clone(&runner), id);
            each_id(ids(&world, (plan.0, 1)), drive.clone()).await?;
            let ids = ids(&world, plan);
            let checked = ids.clone();
            let work = async move {
                each_id(ids, drive).await?;
                Ok(Work::of(plan.0 * plan.1))
            };
            Ok(Ready::new(work, async move {
                let store = Mire::connect(&world, Mire::DATABASE).await?.0;
                check::<S>(&store, checked).await
            }))
        }
    })
}

pub(super) fn delivered(plan: Plan) -> Side {
    driven::<Trip, _, _>(plan, |runner, id| async move {
        trigger(&runner, &id).await?;
        let reference = id.clone();
        let reserved = Reserved {
            reference: reference.clone(),
        };
        ensure!(runner.deliver(&id, &reserved).await?, "not reserved");
        let captured = Captured { reference };
        ensure!(runner.deliver(&id, &captured).await?, "not captured");
        Ok(())
    })
}

pub(super) fn in_process(plan: Plan) -> Side {
    driven::<Effects, _, _>(
        plan,
        |runner, id| async move { trigger(&runner, &id).await },
    )
}

/// Answers each request at once. The second answer carries its saga to the end.
struct Outside(PgSagaRunner<Trip>, Waiting);

impl EmitPublisher for Outside {
    async fn publish(&self, message: OutboxMessage<'_>) -> Result<()> {
        let id = message.instance_id;
        let reference = id.to_owned();
        match message.event_type {
            "inventory.reserve" => {
                self.0.deliver(id, &Reserved { reference }).await?;
            }
            "payment.capture" => {
                self.0.deliver(id, &Captured { reference }).await?;
                self.1.end(id);
            }
            other => anyhow::bail!("a request of type {other}"),
        }
        Ok(())
    }
}

/// A worker delivers the requests, as soon as it hears of them; whoever starts a saga waits for its end.
pub(super) fn from_outbox(plan: Plan) -> Side {
    Side::new(move |world| async move {
        let database = format!("sagas_{}", world.fresh_number());
        Mire::create(&world, &database).await?;
        let store = Mire::connect(&world, &database).await?.0;
        let wake = PostgresSagaWakeTransport::new(store.pool().clone());
        let runner = || runner::<Trip>(&store).with_wake_transport(wake.clone());
        let waiting = Waiting::default();
        let outside = Outside(runner(), waiting.clone());
        let worker = SagaWorker::new(runner().with_publisher(outside))
            .with_wake_transport(wake.clone())
            .outbox_concurrency(plan.0);
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(stop.clone()));
        let stop = stop.drop_guard();
        let starter = Arc::new(runner());
        let drive = move |id: String| {
            let (runner, waiting) = (Arc::clone(&starter), waiting.clone());
            async move {
                let end = waiting.begin(&id);
                trigger(&runner, &id).await?;
                ended(end, &id).await
            }
        };
        each_id(ids(&world, (plan.0, 1)), drive.clone()).await?;
        let ids = ids(&world, plan);
        let checked = ids.clone();
        let work = async move {
            let started = Instant::now();
            each_id(ids, drive).await?;
            let elapsed = started.elapsed();
            drop(stop);
            worker.await.context("the worker panicked")??;
            Ok(Work::of(plan.0 * plan.1).within(elapsed))
        };
        Ok(Ready::new(work, async move {
            let store = Mire::connect(&world, &database).await?.0;
            check::<Trip>(&store, checked).await?;
            drop(store);
            world.drop_database(&database).await
        }))
    })
}
