//! One answer that is delivered several times at once, as providers do that call back until they are heard.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;
use mire_client::testing::shared;
use mire_client::{EventData, EventStore};
use mire_sagas::{
    Answer, Dep, Emit, IdempotencyKey, Req, Saga, SagaBuilder, SagaRunner, SagaStatus, task,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "money.ask-for")]
struct AskForMoney {}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "money.received")]
struct MoneyReceived {}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "mail.send")]
struct SendMail {}

/// How often each mail was sent, by key.
#[derive(Default)]
struct Mails(Mutex<BTreeMap<String, u32>>);

struct Sale;

impl Saga for Sale {
    type State = ();
    const NAME: &'static str = "sale";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step("money", task(|| Emit::<AskForMoney>::event(AskForMoney {})))
            .step(
                "mail",
                task(|| Emit::<SendMail>::event(SendMail {}))
                    .effect(send)
                    .after("money")
                    .terminal_success(),
            )
            .allow_unhandled::<AskForMoney>()
    }
}

async fn send(_: Req<SendMail>, Dep(mails): Dep<Mails>, key: IdempotencyKey) {
    *mails.0.lock().unwrap().entry(key.to_string()).or_default() += 1;
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_delivered_several_times_at_once_has_its_consequences_once() {
    let database = tokio::task::spawn_blocking(|| shared().fresh_database().unwrap());
    let database = database.await.unwrap();
    let topology = Sale::builder().dep(Mails::default()).build().unwrap();
    // Two services hear of it, twice each.
    let runners: Vec<_> = (0..2)
        .map(|_| {
            let store = EventStore::builder().url(&database.url).build().unwrap();
            SagaRunner::new(topology.clone(), store)
        })
        .collect();
    for n in 0..10 {
        let instance = n.to_string();
        runners[0].start(&instance, ()).await.unwrap();
        let deliveries = (0..4).map(|service| {
            let answer = Answer::response(MoneyReceived {}).unwrap().id("paid");
            runners[service % 2].deliver_answer(&instance, "money", answer)
        });
        for delivered in join_all(deliveries).await {
            delivered.unwrap();
        }
        let ended = runners[1].wait_until_ended(&instance, Duration::from_secs(20));
        assert_eq!(ended.await.unwrap(), SagaStatus::Completed);
        let sent = runners[0].history(&instance).await.unwrap();
        let mails = sent.iter().filter(|entry| entry.fact["step"] == "mail");
        assert_eq!(mails.count(), 2, "asked for and completed: {sent:?}");
    }
}
