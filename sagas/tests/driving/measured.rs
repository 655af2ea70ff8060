//! The numbers that a worker exports through the `metrics` facade are what they are said to be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mire_sagas::{
    Answer, Data, Dep, Emit, EmitPublisher, OutboxMessage, PublishError, Published, Req, Saga,
    SagaBuilder, SagaRunner, SagaStatus, Start, measure, task,
};
use tokio::sync::Semaphore;

use super::common::{Chain, Job, Jobs, SOON, Waiting, World, eventually, fixture, seat};
use super::numbers::Numbers;

/// Has an effect that takes until it is let through.
struct Slow;

#[derive(Clone)]
struct Gate(Arc<Semaphore>);

async fn pass(_: Req<Job>, Dep(gate): Dep<Gate>) -> Data<u32> {
    gate.0.acquire().await.unwrap().forget();
    Data(1)
}

impl Saga for Slow {
    type State = ();
    const NAME: &'static str = "slow";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let passing = task(|| Emit::<Job>::event(Job::default()))
            .effect(pass)
            .on_response(|Data(n): Data<u32>| n);
        saga.step("pass", passing.terminal_success())
    }
}

struct Broken;

impl Saga for Broken {
    type State = ();
    const NAME: &'static str = "broken";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let decide = || -> u32 { panic!("it is broken") };
        saga.step("decide", task(decide).terminal_success())
    }
}

/// Refuses what instance `dead` asks for, and needs two tries for all else.
struct Moody(World);

impl EmitPublisher for Moody {
    async fn publish(&self, message: &OutboxMessage) -> Result<Published, PublishError> {
        if message.instance == "dead" {
            return Err(PublishError::permanent("no such address"));
        }
        if self.0.enter(&message.key) == 1 {
            return Err(PublishError::transient("not now"));
        }
        Ok(Published::answered(Answer::response(seat(1))?))
    }
}

/// On one thread, because the recorder is this thread's and no other test's.
#[tokio::test]
async fn a_worker_exports_the_numbers_it_documents() {
    let numbers = Numbers::default();
    let _ours = metrics::set_default_local_recorder(&numbers);
    let f = fixture().await;
    let gate = Gate(Arc::new(Semaphore::new(0)));
    let slow = Slow::builder().dep(gate.clone()).build().unwrap();
    let quick = Duration::from_millis(20);
    let worker = f
        .worker::<Chain>()
        .saga(&f.topology::<Waiting>())
        .saga(&f.topology::<Broken>())
        .saga(&slow)
        .publisher(Moody(f.world.clone()))
        .publish_attempts(3, quick, quick)
        .quarantine_after(2, quick)
        .ttl(Duration::from_secs(4));
    let worker = worker.spawn().await.unwrap();
    let (chain, waiting) = (f.runner::<Chain>(), f.runner::<Waiting>());
    let (broken, slow) = (f.runner::<Broken>(), SagaRunner::new(slow, f.store.clone()));

    let began = Instant::now();
    let mut jobs = Jobs::default();
    jobs.a.failures = 1;
    let mut tx = f.store.begin().await.unwrap();
    chain
        .start_in(&mut tx, Start::new("1", jobs))
        .await
        .unwrap();
    for instance in ["sent", "dead"] {
        let start = Start::new(instance, 60_000);
        waiting.start_in(&mut tx, start).await.unwrap();
    }
    broken.start_in(&mut tx, Start::new("1", ())).await.unwrap();
    slow.start_in(&mut tx, Start::new("1", ())).await.unwrap();
    tx.commit().await.unwrap();
    let ended = chain.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    let ended = waiting.wait_until_ended("sent", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    let ended = waiting.wait_until_ended("dead", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Compensated);
    eventually(async || broken.status("1").await.unwrap() == SagaStatus::Parked).await;

    let of = |saga: &str, name| numbers.counted(name, &format!("saga={saga}"));
    assert_eq!(of("broken", measure::CLAIMED), 2);
    assert_eq!(of("broken", measure::FAILURES), 2);
    assert_eq!(of("broken", measure::PARKED), 1);
    assert_eq!(of("broken", measure::COMMITTED), 0);
    assert_eq!(of("chain", measure::FAILURES), 0);
    // Taken up again after the wait for the second attempt; four answers, and the one that failed.
    assert_eq!(of("chain", measure::CLAIMED), 2);
    assert_eq!(of("chain", measure::COMMITTED), 5);
    let took = |outcome| numbers.values(measure::EFFECTS, &format!("saga=chain,outcome={outcome}"));
    assert_eq!((took("ok").len(), took("failed").len()), (4, 1));
    let most = began.elapsed().as_secs_f64();
    let all = [took("ok"), took("failed")].concat();
    assert!(all.iter().all(|s| (0.0..=most).contains(s)), "{all:?}");
    for (outcome, messages) in [("sent", 1), ("retry", 1), ("dead", 1)] {
        let counted = numbers.counted(measure::MESSAGES, &format!("outcome={outcome}"));
        assert_eq!(counted, messages, "{outcome}");
    }

    // One is in hand; then somebody else takes it.
    let holder = format!("holder={}", worker.holder());
    let held = || numbers.gauge(measure::HELD, &holder);
    eventually(async || held() == 1.0).await;
    assert_eq!(of("slow", measure::LOST), 0);
    let take = "UPDATE mire.sagas SET fence = nextval('mire.fences'), holder = 'somebody',
                       lease_expires_at = clock_timestamp() + '1 hour', due_at = clock_timestamp() + '1 hour'
                 WHERE saga = 'slow'";
    f.session().await.batch_execute(take).await.unwrap();
    eventually(async || of("slow", measure::LOST) == 1).await;
    gate.0.add_permits(1);
    eventually(async || held() == 0.0).await;
    assert_eq!(of("chain", measure::LOST), 0);

    // What is in hand when the worker stops comes to its end.
    let mut tx = f.store.begin().await.unwrap();
    slow.start_in(&mut tx, Start::new("2", ())).await.unwrap();
    tx.commit().await.unwrap();
    eventually(async || held() == 1.0).await;
    tokio::join!(worker.shutdown(), async { gate.0.add_permits(1) });
    assert_eq!(held().to_bits(), 0_f64.to_bits());
}
