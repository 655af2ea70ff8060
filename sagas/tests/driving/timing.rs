//! Timers and retries: durable, and by the database's clock.

use std::time::{Duration, Instant};

use mire_sagas::{SagaStatus, StepStatus, UndoStatus};

use super::common::{Chain, Job, Jobs, SOON, Waiting, fixture, seat};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_not_answered_in_time_turns_the_instance_back() {
    let f = fixture().await;
    let worker = f
        .worker::<Waiting>()
        .recheck(Duration::from_secs(60))
        .spawn()
        .await
        .unwrap();
    let runner = f.runner::<Waiting>();
    let begun = Instant::now();
    runner.start("1", 700).await.unwrap();
    runner.start("answered", 700).await.unwrap();
    runner.deliver("answered", "answer", seat(1)).await.unwrap();
    assert_eq!(
        runner.wait_until_ended("1", SOON).await.unwrap(),
        SagaStatus::Compensated
    );
    let took = begun.elapsed();
    println!("a timeout of 700 ms took effect within {took:?}");
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(10));
    assert_eq!(
        runner.step_status("1", "answer").await.unwrap(),
        StepStatus::TimedOut
    );
    assert_eq!(
        runner.undo_status("1", "first").await.unwrap(),
        UndoStatus::Done
    );
    assert_eq!(
        runner.status("answered").await.unwrap(),
        SagaStatus::Completed
    );
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_survives_all_workers() {
    let f = fixture().await;
    let runner = f.runner::<Waiting>();
    let worker = f.worker::<Waiting>().spawn().await.unwrap();
    runner.start("1", 800).await.unwrap();
    worker.abort();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Running);
    let worker = f.worker::<Waiting>().spawn().await.unwrap();
    assert_eq!(
        runner.wait_until_ended("1", SOON).await.unwrap(),
        SagaStatus::Compensated
    );
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_effect_is_tried_again_later_and_later() {
    let f = fixture().await;
    let worker = f.worker::<Chain>().spawn().await.unwrap();
    let runner = f.runner::<Chain>();
    let job = |failures| Job {
        failures,
        ..Job::default()
    };
    let jobs = Jobs {
        a: job(2),
        ..Jobs::default()
    };
    runner.start("1", jobs).await.unwrap();
    let ended = runner.wait_until_ended("1", SOON).await.unwrap();
    assert_eq!(ended, SagaStatus::Completed);
    let times = f.world.times("chain/1/a/1/0");
    let waits: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).collect();
    println!("attempts were {waits:?} apart, wanted 300 ms and 600 ms");
    assert_eq!(waits.len(), 2);
    assert!(waits[0] >= Duration::from_millis(300));
    assert!(waits[1] >= Duration::from_millis(600));
    assert_eq!(f.world.calls("chain/1/b/1/0"), 1);

    let jobs = Jobs {
        b: job(100),
        ..Jobs::default()
    };
    runner.start("2", jobs).await.unwrap();
    let ended = runner.wait_until_ended("2", SOON).await.unwrap();
    assert_eq!(ended, SagaStatus::Compensated);
    assert_eq!(f.world.calls("chain/2/b/1/0"), 4);
    assert_eq!(f.world.calls("chain/2/a~undo/1/0"), 1);
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_never_returns_fails_its_attempt_and_gives_its_place_back() {
    const LIMIT: Duration = Duration::from_millis(200);
    let f = fixture().await;
    let runner = f.runner::<Chain>().effect_timeout(LIMIT);
    let hangs = |hangs| Jobs {
        b: Job {
            hangs,
            ..Job::default()
        },
        ..Jobs::default()
    };
    // Where it runs in the runner, the call comes back.
    runner.start("1", hangs(2)).await.unwrap();
    assert_eq!(f.world.calls("chain/1/b/1/0"), 1);

    let worker = f.worker::<Chain>().effects(1).effect_timeout(LIMIT);
    let worker = worker.spawn().await.unwrap();
    runner.start("2", hangs(100)).await.unwrap();
    for (instance, wanted, calls) in [
        ("1", SagaStatus::Completed, 3),
        ("2", SagaStatus::Compensated, 4),
    ] {
        let ended = runner.wait_until_ended(instance, SOON).await.unwrap();
        assert_eq!(ended, wanted);
        let key = format!("chain/{instance}/b/1/0");
        assert_eq!(f.world.calls(&key), calls);
        let times = f.world.times(&key);
        // An attempt lasts as long as the limit; the first wait after it is 300 ms.
        assert!(times[1] - times[0] >= LIMIT + Duration::from_millis(300));
        let told = runner.describe(instance).await.unwrap();
        assert!(told.contains("did not return within 200ms"), "{told}");
        assert!(told.contains("raise effect_timeout"), "{told}");
    }
    assert_eq!(
        runner.step_status("2", "b").await.unwrap(),
        StepStatus::Failed
    );
    assert_eq!(
        runner.undo_status("2", "a").await.unwrap(),
        UndoStatus::Done
    );
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}
