//! From start to end.

use std::time::{Duration, Instant};

use mire_sagas::{SagaStatus, Start, Started, StepStatus, UndoStatus};

use super::common::{Chain, Job, Jobs, Pair, SOON, eventually, fixture};

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_takes_an_instance_with_effects_to_its_end() {
    let f = fixture().await;
    let runner = f.runner::<Chain>();
    assert_eq!(
        runner.start("1", Jobs::default()).await.unwrap(),
        Started::Now
    );
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
    assert_eq!(
        f.world.keys(),
        [
            "chain/1/a/1/0",
            "chain/1/b/1/0",
            "chain/1/c/1/0",
            "chain/1/d/1/0"
        ]
    );
    assert_eq!(
        runner.start("1", Jobs::default()).await.unwrap(),
        Started::Before
    );
    assert_eq!(f.world.calls("chain/1/a/1/0"), 1);
    assert_eq!(
        runner.step_status("1", "d").await.unwrap(),
        StepStatus::Completed
    );
    assert!(runner.active_steps("1").await.unwrap().is_empty());
    let requests = runner.emitted_requests("1").await.unwrap();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.answered));
    assert!(runner.step_status("1", "z").await.unwrap_err().is_invalid());
    assert!(runner.status("2").await.unwrap_err().is_not_found());
    assert!(runner.describe("2").await.unwrap_err().is_not_found());
    assert!(runner.describe("1").await.unwrap().contains("completed"));
    assert_eq!(
        runner.history("1").await.unwrap()[0].fact["fact"],
        "started"
    );
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_what_others_have_started_to_its_end() {
    let f = fixture().await;
    let worker = f.worker::<Chain>().spawn().await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    let runner = f.runner::<Chain>();
    let started = runner.start_in(&mut tx, Start::new("1", Jobs::default()));
    assert_eq!(started.await.unwrap(), Started::Now);
    assert!(runner.status("1").await.unwrap_err().is_not_found());
    tx.commit().await.unwrap();
    let begun = Instant::now();
    assert_eq!(
        runner.wait_until_ended("1", SOON).await.unwrap(),
        SagaStatus::Completed
    );
    println!("a worker ended it within {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    worker.shutdown().await;
    assert_eq!(f.world.keys().len(), 4);
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_effect_turns_the_instance_back() {
    let f = fixture().await;
    let worker = f.worker::<Chain>().spawn().await.unwrap();
    let runner = f.runner::<Chain>();
    let refused = Job {
        refused: true,
        ..Job::default()
    };
    let jobs = Jobs {
        c: refused,
        ..Jobs::default()
    };
    runner.start("1", jobs.clone()).await.unwrap();
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Compensated);
    let mut tx = f.store.begin().await.unwrap();
    runner
        .start_in(&mut tx, Start::new("2", jobs))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        runner.wait_until_ended("2", SOON).await.unwrap(),
        SagaStatus::Compensated
    );
    for instance in ["1", "2"] {
        assert_eq!(
            runner.step_status(instance, "c").await.unwrap(),
            StepStatus::Failed
        );
        assert_eq!(
            runner.undo_status(instance, "a").await.unwrap(),
            UndoStatus::Done
        );
        assert_eq!(f.world.calls(&format!("chain/{instance}/a~undo/1/0")), 1);
        assert_eq!(f.world.calls(&format!("chain/{instance}/c~undo/1/0")), 0);
    }
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn independent_effects_run_at_the_same_time() {
    let f = fixture().await;
    let slow = Job {
        ms: 1_000,
        ..Job::default()
    };
    let jobs = Jobs {
        a: slow.clone(),
        b: slow,
        ..Jobs::default()
    };
    let runner = f.runner::<Pair>();
    let begun = Instant::now();
    runner.start("1", jobs.clone()).await.unwrap();
    let took = begun.elapsed();
    println!("two effects of a second in a runner took {took:?}");
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
    assert!(took < Duration::from_millis(1_900), "{took:?}");

    let worker = f.worker::<Pair>().spawn().await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    for n in 2..22 {
        let start = Start::new(n.to_string(), jobs.clone());
        runner.start_in(&mut tx, start).await.unwrap();
    }
    tx.commit().await.unwrap();
    let begun = Instant::now();
    for n in 2..22 {
        let ended = runner.wait_until_ended(&n.to_string(), SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    let took = begun.elapsed();
    println!("forty effects of a second, of twenty instances, in a worker took {took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_an_effect_is_an_attempt_that_failed() {
    let f = fixture().await;
    let worker = f.worker::<Chain>().spawn().await.unwrap();
    let runner = f.runner::<Chain>();
    let panics = Job {
        panics: true,
        ..Job::default()
    };
    let jobs = Jobs {
        a: panics,
        ..Jobs::default()
    };
    runner.start("1", jobs).await.unwrap();
    assert_eq!(
        runner.wait_until_ended("1", SOON).await.unwrap(),
        SagaStatus::Completed
    );
    assert_eq!(f.world.calls("chain/1/a/1/0"), 2);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_share_many_instances_and_each_effect_is_called_once() {
    let f = fixture().await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(f.worker::<Chain>().instances(20).spawn().await.unwrap());
    }
    let runner = f.runner::<Chain>();
    let mut tx = f.store.begin().await.unwrap();
    for n in 0..200 {
        let start = Start::new(n.to_string(), Jobs::default());
        runner.start_in(&mut tx, start).await.unwrap();
    }
    tx.commit().await.unwrap();
    let begun = Instant::now();
    let sql = "SELECT count(*) FROM mire.sagas WHERE status = 'completed'";
    eventually(async || f.number(sql).await == 200).await;
    println!("200 instances of four effects took {:?}", begun.elapsed());
    for worker in workers {
        worker.shutdown().await;
    }
    let keys = f.world.keys();
    assert_eq!(keys.len(), 800);
    assert!(keys.iter().all(|key| f.world.calls(key) == 1));
    assert_eq!(f.leaks().await, [""; 0]);
}
