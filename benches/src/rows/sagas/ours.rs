//! The reference sagas on our own crate.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use mire_client::EventData;
use sagas::{
    Answer, Delivery, Dep, Emit, EmitPublisher, OutboxMessage, Output, PublishError, Published,
    Req, Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker, Started, State, task,
};
use serde::{Deserialize, Serialize};

use super::{PATIENCE, Plan, Waiting, each_id, ended, ids};
use crate::side::{Ready, Side, Work};
use crate::stores::{Ours, Store};
use crate::world::World;

#[derive(Clone, Serialize, Deserialize)]
struct Booking {
    id: String,
}

macro_rules! messages {
    ($($name:ident is $kind:literal),* $(,)?) => {$(
        #[derive(Serialize, Deserialize, EventData)]
        #[event_data(event_type = $kind)]
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
    Affect is "effect.do",
    Affected is "effect.done",
}

/// Two steps that are answered from outside, an effect, and a value.
struct Trip;

fn reserve(State(booking): State<Booking>) -> Emit<Reserve> {
    Emit::event(Reserve {
        reference: booking.id,
    })
}

fn capture(State(booking): State<Booking>) -> Emit<Capture> {
    Emit::event(Capture {
        reference: booking.id,
    })
}

fn ticket(State(booking): State<Booking>) -> Emit<Ticket> {
    Emit::event(Ticket {
        reference: booking.id,
    })
}

/// The last that is done outside: what follows is written by the same drive.
async fn issue(Req(ticket): Req<Ticket>, Dep(waiting): Dep<Waiting>) -> Ticketed {
    waiting.end(&ticket.reference);
    Ticketed {
        reference: ticket.reference,
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Issued(String);

fn receipt(Output(Issued(reference)): Output<Issued>) -> String {
    reference
}

impl Saga for Trip {
    type State = Booking;
    const NAME: &'static str = "trip";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step(
            "reserve",
            task(reserve).on_response(|answer: Reserved| answer.reference),
        )
        .step(
            "pay",
            task(capture)
                .after("reserve")
                .on_response(|answer: Captured| answer.reference),
        )
        .step(
            "ticket",
            task(ticket)
                .after("pay")
                .effect(issue)
                .on_response(|answer: Ticketed| Issued(answer.reference)),
        )
        .step("receipt", task(receipt).after("ticket").terminal_success())
        .allow_unhandled::<Reserve>()
        .allow_unhandled::<Capture>()
    }
}

/// Four effects, one after the other.
struct Effects;

fn request(State(booking): State<Booking>) -> Emit<Affect> {
    Emit::event(Affect {
        reference: booking.id,
    })
}

async fn affect(Req(request): Req<Affect>) -> Affected {
    Affected {
        reference: request.reference,
    }
}

impl Saga for Effects {
    type State = Booking;
    const NAME: &'static str = "effects";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let step = || {
            task(request)
                .effect(affect)
                .on_response(|done: Affected| done.reference)
        };
        saga.step("first", step())
            .step("second", step().after("first"))
            .step("third", step().after("second"))
            .step("fourth", step().after("third").terminal_success())
    }
}

type Runner<S> = Arc<SagaRunner<S>>;

async fn runner<S: Saga>(world: &World, waiting: &Waiting) -> Result<Runner<S>> {
    let store = Ours::open(world, Ours::DATABASE).await?.0;
    let topology = S::builder().dep(waiting.clone()).build()?;
    Ok(Arc::new(SagaRunner::new(topology, store)))
}

async fn start<S: Saga<State = Booking>>(runner: &SagaRunner<S>, id: &str) -> Result<()> {
    let started = runner.start(id, Booking { id: id.to_owned() }).await?;
    ensure!(started == Started::Now, "{id} was there before");
    Ok(())
}

/// Fails unless each of these has succeeded.
async fn check<S: Saga>(world: &World, ids: Vec<Vec<String>>) -> Result<()> {
    let store = Ours::connect(world, Ours::DATABASE).await?.0;
    let topology = S::builder().dep(Waiting::default()).build()?;
    let runner = SagaRunner::<S>::new(topology, store);
    for id in ids.concat() {
        let status = runner.status(&id).await?;
        ensure!(status == SagaStatus::Completed, "{id} is {status}");
    }
    Ok(())
}

/// A side whose sagas are carried out by `drive`, after a few that are not counted. With a worker, if `publishes`.
fn driven<S, F, Fut>(plan: Plan, publishes: bool, drive: F) -> Side
where
    S: Saga,
    F: Fn(Runner<S>, Waiting, String) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Side::new(move |world| {
        let drive = drive.clone();
        async move {
            let waiting = Waiting::default();
            let runner = runner::<S>(&world, &waiting).await?;
            let last = Arc::clone(&runner);
            let worker = if publishes {
                let store = Ours::connect(&world, Ours::DATABASE).await?.0;
                let worker = SagaWorker::builder(store).saga(runner.topology());
                Some(worker.publisher(Outside).spawn().await?)
            } else {
                None
            };
            let drive = move |id| drive(Arc::clone(&runner), waiting.clone(), id);
            each_id(ids(&world, (plan.0, 1)), drive.clone()).await?;
            let ids = ids(&world, plan);
            let checked = ids.clone();
            let work = async move {
                let started = Instant::now();
                let ends: Vec<String> = ids.iter().filter_map(|ids| ids.last().cloned()).collect();
                each_id(ids, drive).await?;
                if publishes {
                    for id in ends {
                        last.wait_until_ended(&id, PATIENCE).await?;
                    }
                }
                let elapsed = started.elapsed();
                if let Some(worker) = worker {
                    worker.shutdown().await;
                }
                Ok(Work::of(plan.0 * plan.1).within(elapsed))
            };
            Ok(Ready::new(work, async move {
                check::<S>(&world, checked).await
            }))
        }
    })
}

pub(super) fn delivered(plan: Plan) -> Side {
    driven(plan, false, |runner: Runner<Trip>, _, id| async move {
        start(&runner, &id).await?;
        let reference = id.clone();
        let reserved = Reserved {
            reference: reference.clone(),
        };
        let delivery = runner.deliver(&id, "reserve", reserved).await?;
        ensure!(delivery == Delivery::Driven, "{delivery:?}");
        let delivery = runner.deliver(&id, "pay", Captured { reference }).await?;
        ensure!(delivery == Delivery::Driven, "{delivery:?}");
        Ok(())
    })
}

pub(super) fn in_process(plan: Plan) -> Side {
    driven(plan, false, |runner: Runner<Effects>, _, id| async move {
        start(&runner, &id).await
    })
}

/// A worker delivers the requests; whoever starts a saga waits for its end.
pub(super) fn from_outbox(plan: Plan) -> Side {
    driven(plan, true, |runner: Runner<Trip>, waiting, id| async move {
        let end = waiting.begin(&id);
        start(&runner, &id).await?;
        ended(end, &id).await
    })
}

/// Answers each request at once.
struct Outside;

impl EmitPublisher for Outside {
    async fn publish(&self, message: &OutboxMessage) -> Result<Published, PublishError> {
        let reference = message.instance.clone();
        let answer = match message.kind.as_str() {
            "inventory.reserve" => Answer::response(Reserved { reference }),
            "payment.capture" => Answer::response(Captured { reference }),
            other => {
                return Err(PublishError::permanent(format!(
                    "a request of type {other}"
                )));
            }
        };
        let answer = answer.map_err(|error| PublishError::permanent(error.to_string()))?;
        Ok(Published::answered(answer))
    }
}
