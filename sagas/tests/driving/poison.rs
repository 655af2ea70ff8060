//! Instances that cannot be driven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mire_sagas::{
    Dep, ListFilter, Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker, SagaWorkerBuilder,
    Start, State, task,
};

use super::common::{Chain, Fixture, Jobs, SOON, eventually, fixture};

/// Its program can be mended while it runs.
#[derive(Clone, Default)]
struct Program(Arc<AtomicBool>);

struct Fragile;

impl Saga for Fragile {
    type State = bool;
    const NAME: &'static str = "fragile";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let decide = |State(poison): State<bool>, Dep(program): Dep<Program>| {
            assert!(!poison || program.0.load(Ordering::SeqCst), "it is poison");
            "decided"
        };
        saga.step("decide", task(decide).terminal_success())
    }
}

fn fragile(f: &Fixture, program: &Program) -> (SagaRunner<Fragile>, SagaWorkerBuilder) {
    let topology = Fragile::builder().dep(program.clone()).build().unwrap();
    let worker = SagaWorker::builder(f.another_store())
        .saga(&topology)
        .saga(&f.topology::<Chain>())
        .recheck(Duration::from_millis(500))
        .quarantine_after(3, Duration::from_millis(50));
    (SagaRunner::new(topology, f.store.clone()), worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_parked_with_its_reason_and_others_do_not_suffer() {
    let f = fixture().await;
    let program = Program::default();
    let (runner, worker) = fragile(&f, &program);
    let worker = worker.instances(4).spawn().await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    for n in 0..20 {
        let start = Start::new(format!("poison-{n}"), true);
        runner.start_in(&mut tx, start).await.unwrap();
    }
    let chains = f.runner::<Chain>();
    for n in 0..20 {
        let start = Start::new(n.to_string(), Jobs::default());
        chains.start_in(&mut tx, start).await.unwrap();
    }
    runner
        .start_in(&mut tx, Start::new("fine", false))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for n in 0..20 {
        let ended = chains.wait_until_ended(&n.to_string(), SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    assert_eq!(runner.status("fine").await.unwrap(), SagaStatus::Completed);
    let parked = ListFilter::new().statuses([SagaStatus::Parked]);
    eventually(async || runner.list(&parked).await.unwrap().len() == 20).await;
    let listed = runner.list(&parked).await.unwrap();
    let error = listed[0].error.clone().unwrap();
    assert!(error.contains("it is poison"), "{error}");
    assert!(runner.drive("poison-0").await.is_ok());
    assert_eq!(runner.status("poison-0").await.unwrap(), SagaStatus::Parked);
    assert_eq!(f.leaks().await, [""; 0]);

    program.0.store(true, Ordering::SeqCst);
    for n in 0..20 {
        runner.resume(&format!("poison-{n}")).await.unwrap();
    }
    for n in 0..20 {
        let ended = runner.wait_until_ended(&format!("poison-{n}"), SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_nobody_can_read_is_parked() {
    let f = fixture().await;
    let (runner, worker) = fragile(&f, &Program::default());
    let sql = r#"SELECT mire.saga_start(ARRAY[
        '{"saga": "fragile", "instance": "1", "topology_version": 1, "due_in_ms": 0,
          "facts": [{"fact": "started", "state": false}, {"fact": "from_the_future"}]}',
        '{"saga": "fragile", "instance": "2", "topology_version": 1,
          "facts": [{"fact": "started", "state": "no boolean"}]}']::jsonb[])"#;
    f.session().await.batch_execute(sql).await.unwrap();
    let worker = worker.spawn().await.unwrap();
    for (instance, reason) in [("1", "from_the_future"), ("2", "cannot be read as bool")] {
        eventually(async || runner.status(instance).await.unwrap() == SagaStatus::Parked).await;
        let told = runner.describe(instance).await.unwrap();
        assert!(told.contains(reason), "{told}");
    }
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_kills_its_workers_is_parked_before_it_is_looked_at() {
    let f = fixture().await;
    let (runner, worker) = fragile(&f, &Program::default());
    let mut tx = f.store.begin().await.unwrap();
    runner
        .start_in(&mut tx, Start::new("1", true))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let sql = "UPDATE mire.sagas SET attempts = 7";
    f.session().await.batch_execute(sql).await.unwrap();
    let worker = worker.spawn().await.unwrap();
    eventually(async || runner.status("1").await.unwrap() == SagaStatus::Parked).await;
    let told = runner.describe("1").await.unwrap();
    assert!(told.contains("may kill its workers"), "{told}");
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}
