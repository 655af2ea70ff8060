//! An instance that operators move while it is in hand.

use std::time::Duration;

use mire_sagas::{
    Data, Dep, Emit, IdempotencyKey, Req, Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker,
    Start, task,
};

use super::common::{Job, SOON, World, eventually, fixture};

fn job() -> Emit<Job> {
    Emit::event(Job::default())
}

async fn quick(_: Req<Job>, Dep(world): Dep<World>, key: IdempotencyKey) -> Data<u32> {
    Data(world.enter(&format!("quick {key}")))
}

struct Slow<const V: i32>;

impl<const V: i32> Saga for Slow<V> {
    type State = ();
    const NAME: &'static str = "slow";
    const VERSION: i32 = V;

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let step = task(job).on_response(|Data(n): Data<u32>| n);
        let step = if V == 1 {
            step.effect(never)
        } else {
            step.effect(quick)
        };
        saga.step("do", step.terminal_success())
    }
}

async fn never(_: Req<Job>, Dep(world): Dep<World>, key: IdempotencyKey) -> Data<u32> {
    world.enter(&format!("never {key}"));
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_migrated_while_in_hand_goes_on_at_once() {
    let f = fixture().await;
    let first = Slow::<1>::builder().dep(f.world.clone()).build().unwrap();
    let second = Slow::<2>::builder().dep(f.world.clone()).build().unwrap();
    let worker = SagaWorker::builder(f.another_store())
        .saga(&first)
        .saga(&second)
        .ttl(Duration::from_secs(600))
        .recheck(Duration::from_secs(600))
        .spawn()
        .await
        .unwrap();
    let of_first = SagaRunner::new(first, f.store.clone());
    let of_second = SagaRunner::new(second, f.store.clone());
    let mut tx = f.store.begin().await.unwrap();
    let start = Start::new("1", ());
    of_first.start_in(&mut tx, start).await.unwrap();
    tx.commit().await.unwrap();
    eventually(async || f.world.keys().len() == 1).await;
    let session = f.session().await;
    let sql = "SELECT mire.saga_migrate('slow', 1, 2)";
    session.batch_execute(sql).await.unwrap();
    let ended = of_second.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    drop(worker);
}
