//! History that was set back under those who remember it: the database was restored to an earlier moment.

use std::sync::{Arc, Mutex};

use mire_sagas::{
    Answer, Emit, EmitPublisher, OutboxMessage, PublishError, Published, Saga, SagaBuilder,
    SagaStatus, State, task,
};
use tokio::sync::Semaphore;

use super::common::{Reference, Reserve, Reserved, SOON, eventually, fixture, seat};

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_knows_more_than_the_log_believes_the_log() {
    let f = fixture().await;
    let runner = f.runner::<Reference>();
    runner.start("1", "Rome".into()).await.unwrap();
    runner.deliver("1", "flight", seat(1)).await.unwrap();
    let set_back = "ALTER TABLE mire.events DISABLE TRIGGER USER;
        DELETE FROM mire.events WHERE version > 1;
        ALTER TABLE mire.events ENABLE TRIGGER USER;
        UPDATE mire.stream_heads SET version = 1;
        UPDATE mire.sagas SET steps = '{flight}';
        SELECT mire.new_epoch()";
    f.session().await.batch_execute(set_back).await.unwrap();
    let told = async {
        runner.deliver("1", "hotel", seat(2)).await.unwrap();
        runner.deliver("1", "flight", seat(1)).await.unwrap();
    };
    tokio::time::timeout(SOON, told).await.unwrap();
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
}

/// Asks for three things, one after the other.
struct Tour;

impl Saga for Tour {
    type State = String;
    const NAME: &'static str = "tour";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let reserve = |what: &'static str| {
            task(move |State(trip): State<String>| {
                Emit::<Reserve>::event(Reserve {
                    what: format!("{what} for {trip}"),
                })
            })
            .on_response(|reserved: Reserved| reserved.seat)
        };
        saga.step("flight", reserve("flight"))
            .step("hotel", reserve("hotel").after("flight"))
            .step("car", reserve("car").after("hotel").terminal_success())
            .allow_unhandled::<Reserve>()
    }
}

/// Answers when it may, and remembers what was asked.
#[derive(Clone)]
struct Gate {
    open: Arc<Semaphore>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl EmitPublisher for Gate {
    async fn publish(&self, message: &OutboxMessage) -> Result<Published, PublishError> {
        let Reserve { what } = message.data_as()?;
        self.asked.lock().unwrap().push(what);
        self.open.acquire().await?.forget();
        Ok(Published::answered(Answer::response(seat(1))?))
    }
}

/// A worker remembers the instances that it has laid down, too. When a server is restored, its connections break. The log is as
/// long here as it was before, and says something else, so no version tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_forgets_what_it_remembers_when_its_connections_break() {
    let f = fixture().await;
    let gate = Gate {
        open: Arc::new(Semaphore::new(0)),
        asked: Arc::default(),
    };
    let worker = f.worker::<Tour>().publisher(gate.clone());
    let worker = worker.spawn().await.unwrap();
    let runner = f.runner::<Tour>();
    runner.start("1", "Rome".into()).await.unwrap();
    let asked = async |count| {
        eventually(async || gate.asked.lock().unwrap().len() == count).await;
    };
    asked(1).await;
    gate.open.add_permits(1);
    asked(2).await;
    let waits = "SELECT coalesce(min(pid), 0)::bigint FROM pg_stat_activity WHERE datname = current_database()
        AND query LIKE '%wait_for_events%' AND state = 'active' AND pid <> pg_backend_pid()";
    let before = f.number(waits).await;
    let other_history = "ALTER TABLE mire.events DISABLE TRIGGER USER;
        UPDATE mire.events SET data = replace(data::text, 'Rome', 'Oslo')::jsonb WHERE version = 1;
        ALTER TABLE mire.events ENABLE TRIGGER USER";
    f.session()
        .await
        .batch_execute(other_history)
        .await
        .unwrap();
    f.number(&format!(
        "SELECT pg_terminate_backend({before}::integer)::integer::bigint"
    ))
    .await;
    eventually(async || ![0, before].contains(&f.number(waits).await)).await;
    gate.open.add_permits(2);
    let ended = runner.wait_until_ended("1", SOON).await.unwrap();
    assert_eq!(ended, SagaStatus::Completed);
    worker.shutdown().await;
    assert_eq!(
        *gate.asked.lock().unwrap(),
        ["flight for Rome", "hotel for Rome", "car for Oslo"]
    );
}
