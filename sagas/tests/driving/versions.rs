//! Several versions of a topology side by side.

use std::time::Duration;

use mire_sagas::{
    Data, Dep, Emit, IdempotencyKey, Req, Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker,
    Start, measure, task,
};

use super::common::{Job, Reserve, Reserved, SOON, World, eventually, fixture, seat};
use super::log::Log;
use super::numbers::Numbers;

async fn old(_: Req<Job>, Dep(world): Dep<World>, key: IdempotencyKey) -> Data<u32> {
    Data(world.enter(&format!("old {key}")))
}

async fn new(_: Req<Job>, Dep(world): Dep<World>, key: IdempotencyKey) -> Data<u32> {
    Data(world.enter(&format!("new {key}")))
}

fn ask() -> Emit<Reserve> {
    Emit::event(Reserve { what: "it".into() })
}

fn job() -> Emit<Job> {
    Emit::event(Job::default())
}

struct First;

impl Saga for First {
    type State = ();
    const NAME: &'static str = "evolving";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step("ask", task(ask).on_response(|r: Reserved| r.seat))
            .step(
                "do",
                task(job)
                    .effect(old)
                    .on_response(|Data(n): Data<u32>| n)
                    .after("ask")
                    .terminal_success(),
            )
            .allow_unhandled::<Reserve>()
    }
}

struct Second;

impl Saga for Second {
    type State = ();
    const NAME: &'static str = "evolving";
    const VERSION: i32 = 2;

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step("ask", task(ask).on_response(|r: Reserved| r.seat))
            .step(
                "renamed",
                task(job)
                    .effect(new)
                    .on_response(|Data(n): Data<u32>| n)
                    .after("ask")
                    .terminal_success(),
            )
            .allow_unhandled::<Reserve>()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_leaves_versions_alone_that_it_does_not_know() {
    let f = fixture().await;
    let second = Second::builder().dep(f.world.clone()).build().unwrap();
    let of_first = SagaRunner::new(f.topology::<First>(), f.store.clone());
    let of_second = SagaRunner::new(second.clone(), f.store.clone());
    let worker = SagaWorker::builder(f.another_store())
        .saga(&second)
        .recheck(Duration::from_millis(200))
        .spawn()
        .await
        .unwrap();
    let mut tx = f.store.begin().await.unwrap();
    of_first
        .start_in(&mut tx, Start::new("1", ()))
        .await
        .unwrap();
    of_second
        .start_in(&mut tx, Start::new("2", ()))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    // Whoever delivers knows only the new version.
    of_second.deliver("1", "ask", seat(1)).await.unwrap();
    of_second.deliver("2", "ask", seat(1)).await.unwrap();
    let ended = of_second.wait_until_ended("2", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(of_first.status("1").await.unwrap(), SagaStatus::Running);
    let stranded = "SELECT instances FROM mire.saga_status WHERE topology_version = 1 AND due > 0";
    assert_eq!(f.number(stranded).await, 1);

    let both = SagaWorker::builder(f.another_store())
        .saga(&f.topology::<First>())
        .saga(&second)
        .spawn()
        .await
        .unwrap();
    let ended = of_first.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    assert_eq!(
        f.world.keys(),
        ["new evolving/2/renamed/1/0", "old evolving/1/do/1/0"]
    );
    worker.shutdown().await;
    both.shutdown().await;
    eventually(async || f.leaks().await.is_empty()).await;

    let twice = SagaWorker::builder(f.another_store())
        .saga(&second)
        .saga(&second);
    assert!(twice.spawn().await.is_err());
    assert!(
        SagaWorker::builder(f.another_store())
            .spawn()
            .await
            .is_err()
    );
}

/// On one thread, because log and recorder are this thread's and no other test's.
#[tokio::test]
async fn a_worker_tells_of_versions_that_it_does_not_know() {
    let (log, _guard) = Log::listen();
    let numbers = Numbers::default();
    let _ours = metrics::set_default_local_recorder(&numbers);
    let f = fixture().await;
    let first = f.runner::<First>();
    for instance in ["1", "2", "ended"] {
        first.start(instance, ()).await.unwrap();
    }
    first.deliver("ended", "ask", seat(1)).await.unwrap();
    f.runner::<Second>().start("3", ()).await.unwrap();
    let worker = f.worker::<Second>().recheck(Duration::from_millis(10));
    let worker = worker.spawn().await.unwrap();
    let warning = "instances of a version that this worker does not know are left alone";
    eventually(async || log.text().contains(warning)).await;
    let of = |version| {
        numbers.gauge(
            measure::STRANDED,
            &format!("saga=evolving,version={version}"),
        )
    };
    assert_eq!(of(1).to_bits(), 2_f64.to_bits());
    assert!(of(2).is_nan(), "known");
    let session = f.session().await;
    let migrate = "SELECT mire.saga_migrate('evolving', 1, 2)";
    session.batch_execute(migrate).await.unwrap();
    eventually(async || of(1) == 0.0).await;
    worker.shutdown().await;
    let text = log.text();
    let told: Vec<_> = text.lines().filter(|line| line.contains(warning)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("WARN") && told[0].contains("saga=evolving version=1 instances=2"),
        "{told:?}"
    );
}
