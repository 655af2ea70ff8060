//! How instances begin.

use mire_client::{Aggregate, AggregateRoot, EventData, ExpectedVersion, NewEvent, Subscription};
use mire_sagas::{
    Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker, Start, Started, State, Trigger, task,
};
use serde::{Deserialize, Serialize};

use super::common::{Jobs, Pair, SOON, eventually, fixture};

#[derive(Clone, Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "order")]
enum OrderEvent {
    Placed { item: String },
    Noted,
}

#[derive(Default)]
struct Order;

impl Aggregate for Order {
    type Event = OrderEvent;
    const CATEGORY: &'static str = "order";
    fn apply(&mut self, _: &OrderEvent) {}
}

struct Selling;

impl Saga for Selling {
    type State = String;
    const NAME: &'static str = "selling";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.start_on::<Order>(|event, order| match event {
            OrderEvent::Placed { item } => Some(Start::new(order.id(), item.clone())),
            OrderEvent::Noted => None,
        })
        .step("sell", task(sell).terminal_success())
    }
}

fn sell(State(item): State<String>, Trigger(event): Trigger<OrderEvent>) -> String {
    format!("{item}, because of {event:?}")
}

fn placed(item: &str) -> OrderEvent {
    OrderEvent::Placed { item: item.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_started_in_the_transaction_that_appends_the_event() {
    let f = fixture().await;
    let runner = SagaRunner::new(Selling::topology().unwrap(), f.store.clone());
    for commits in [false, true] {
        let mut order = AggregateRoot::<Order>::new("17");
        order.record_many([OrderEvent::Noted, placed("a book")]);
        let mut tx = f.store.begin().await.unwrap();
        assert_eq!(runner.start_for(&mut tx, &order).await.unwrap(), 1);
        tx.save(&mut order).await.unwrap();
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
            assert!(runner.status("17").await.unwrap_err().is_not_found());
        }
    }
    assert_eq!(runner.status("17").await.unwrap(), SagaStatus::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_starts_each_instance_once() {
    let f = fixture().await;
    let topology = Selling::topology().unwrap();
    let runner = SagaRunner::new(topology.clone(), f.store.clone());
    let append = async |id: usize| {
        let events = [
            NewEvent::new(&OrderEvent::Noted).unwrap(),
            NewEvent::new(&placed("a book")).unwrap(),
            NewEvent::new(&placed("the same again")).unwrap(),
        ];
        let stream = format!("order-{id}");
        f.store
            .append(stream, ExpectedVersion::Any, events)
            .await
            .unwrap();
    };
    let worker = || {
        SagaWorker::builder(f.another_store())
            .saga(&topology)
            .start_on(Subscription::new("orders-to-sell").partitions(2), &topology)
    };
    append(0).await;
    let one = worker().spawn().await.unwrap();
    let two = worker().spawn().await.unwrap();
    for id in 1..20 {
        append(id).await;
    }
    let completed = "SELECT count(*) FROM mire.sagas WHERE status = 'completed'";
    eventually(async || f.number(completed).await == 20).await;
    one.abort();
    for id in 20..25 {
        append(id).await;
    }
    for id in 0..25 {
        let instance = id.to_string();
        eventually(async || runner.status(&instance).await.is_ok()).await;
        let ended = runner.wait_until_ended(&instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    let history = runner.history("3").await.unwrap();
    assert_eq!(history[0].fact["state"], "a book");
    two.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_starts_of_one_id_one_counts() {
    let f = fixture().await;
    let runners: Vec<_> = (0..4).map(|_| f.runner::<Pair>()).collect();
    let all = (0..20_usize).map(|n| runners[n % 4].start("1", Jobs::default()));
    let started = futures_util::future::join_all(all).await;
    let now = started
        .iter()
        .filter(|started| matches!(started, Ok(Started::Now)));
    assert_eq!(now.count(), 1);
    assert!(started.iter().all(Result::is_ok));
    let ended = runners[0].wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    assert_eq!(f.world.calls("pair/1/a/1/0"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_starts_answers_each() {
    let f = fixture().await;
    let runner = f.runner::<Pair>();
    let starts = ["1", "", "2", "1"].map(|id| Start::new(id, Jobs::default()));
    let started = runner.start_batch(starts).await;
    assert_eq!(started[0].as_ref().unwrap(), &Started::Now);
    assert!(started[1].as_ref().unwrap_err().is_invalid());
    assert_eq!(started[2].as_ref().unwrap(), &Started::Now);
    assert_eq!(started[3].as_ref().unwrap(), &Started::Before);
    assert_eq!(runner.status("2").await.unwrap(), SagaStatus::Completed);
}
