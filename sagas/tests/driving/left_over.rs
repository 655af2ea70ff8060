//! What could be left over: children that nobody takes for theirs, and effects of steps that have been given up.

use std::time::Duration;

use mire_sagas::{
    ChildEnded, Data, Emit, Outcome, Output, Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker,
    Start, State, child, comp, task,
};

use super::common::{Chain, Job, Jobs, SOON, eventually, fixture, undo, undo_work, work};

struct Family;

impl Saga for Family {
    type State = String;
    const NAME: &'static str = "family";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let start = |State(name): State<String>| Start::<Chain>::new(name, Jobs::default());
        saga.step("child", child(start)).step(
            "end",
            task(|Output(ended): Output<ChildEnded>| ended.outcome == Outcome::Completed)
                .after("child")
                .terminal_success(),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_started_by_a_worker_that_does_not_drive_it() {
    let f = fixture().await;
    let parents = f.worker::<Family>().spawn().await.unwrap();
    let runner = f.runner::<Family>();
    runner.start("1", "c".into()).await.unwrap();
    let children = "SELECT count(*) FROM mire.sagas WHERE saga = 'chain'";
    eventually(async || f.number(children).await == 1).await;
    let attempts = "SELECT count(*) FROM mire.outbox WHERE attempts > 1";
    assert_eq!(f.number(attempts).await, 0);
    let drivers = f.worker::<Chain>().spawn().await.unwrap();
    let ended = runner.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    parents.shutdown().await;
    drivers.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_somebody_else_started_is_no_child_and_nobody_waits_for_it() {
    let f = fixture().await;
    f.runner::<Chain>()
        .start("c", Jobs::default())
        .await
        .unwrap();
    let worker = SagaWorker::builder(f.another_store())
        .saga(&f.topology::<Family>())
        .saga(&f.topology::<Chain>());
    let worker = worker.spawn().await.unwrap();
    let runner = f.runner::<Family>();
    runner.start("1", "c".into()).await.unwrap();
    let ended = runner.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Compensated);
    worker.shutdown().await;
}

/// An effect that takes longer than its step may.
struct Slow;

impl Saga for Slow {
    type State = Job;
    const NAME: &'static str = "slow";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step(
            "a",
            task(|State(job): State<Job>| Emit::<Job>::event(job))
                .effect(work)
                .on_response(|Data(n): Data<u32>| n)
                .timeout(Duration::from_millis(300))
                .compensate(comp(undo).effect(undo_work))
                .terminal_success(),
        )
    }
}

async fn started(runner: &SagaRunner<Slow>, store: &mire_client::EventStore, name: &str, ms: u64) {
    let job = Job {
        ms,
        ..Job::default()
    };
    let mut transaction = store.begin().await.unwrap();
    runner
        .start_in(&mut transaction, Start::new(name, job))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_what_an_effect_did_whose_step_has_been_given_up() {
    let f = fixture().await;
    let worker = f.worker::<Slow>().spawn().await.unwrap();
    let runner = f.runner::<Slow>();
    started(&runner, &f.store, "1", 2000).await;
    let ended = runner.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Compensated);
    worker.shutdown().await;
    let answered =
        "SELECT count(*) FROM mire.saga_history('slow', '1') WHERE fact ->> 'fact' = 'answered'";
    assert_eq!(
        f.number(answered).await,
        1,
        "it is known, and can be undone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_whose_step_is_given_up_before_its_turn_never_happens() {
    let f = fixture().await;
    let worker = f.worker::<Slow>().effects(1).spawn().await.unwrap();
    let runner = f.runner::<Slow>();
    started(&runner, &f.store, "1", 2000).await;
    eventually(async || f.world.calls("slow/1/a/1/0") == 1).await;
    started(&runner, &f.store, "2", 10).await;
    let ended = runner.wait_until_ended("2", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Compensated);
    eventually(async || f.world.calls("slow/1/a~undo/1/0") == 1).await;
    worker.shutdown().await;
    assert_eq!(f.world.calls("slow/2/a/1/0"), 0);
}
