//! Workers that die, stall or leave.

use std::time::{Duration, Instant};

use mire_client::EventStore;
use mire_client::testing::{Cluster, PoolMode};
use mire_sagas::{SagaRunner, SagaStatus, SagaWorker, Start};

use super::common::{Chain, Fixture, Job, Jobs, Reference, SOON, World, eventually, fixture, seat};

const TTL: Duration = Duration::from_secs(1);

async fn started(f: &Fixture, instance: &str, jobs: Jobs) -> SagaRunner<Chain> {
    let runner = f.runner::<Chain>();
    let mut tx = f.store.begin().await.unwrap();
    let start = Start::new(instance, jobs);
    runner.start_in(&mut tx, start).await.unwrap();
    tx.commit().await.unwrap();
    runner
}

async fn ends_once(f: &Fixture, runner: &SagaRunner<Chain>, instance: &str) {
    let ended = runner.wait_until_ended(instance, SOON).await.unwrap();
    assert_eq!(ended, SagaStatus::Completed);
    let history = runner.history(instance).await.unwrap();
    for (fact, times) in [("completed", 4), ("ended", 1)] {
        let found = history.iter().filter(|entry| entry.fact["fact"] == fact);
        assert_eq!(found.count(), times, "{fact}: {history:?}");
    }
    assert_eq!(f.leaks().await, [""; 0]);
}

fn slow(ms: u64) -> Jobs {
    Jobs {
        b: Job {
            ms,
            ..Job::default()
        },
        ..Jobs::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_had_in_hand_is_done_again_with_the_same_key() {
    let f = fixture().await;
    let one = f.worker::<Chain>().ttl(TTL).spawn().await.unwrap();
    let runner = started(&f, "1", slow(1_500)).await;
    eventually(async || f.world.calls("chain/1/b/1/0") == 1).await;
    one.abort();
    let killed = Instant::now();
    let two = f.worker::<Chain>().ttl(TTL).spawn().await.unwrap();
    eventually(async || f.world.calls("chain/1/b/1/0") == 2).await;
    let took = killed.elapsed();
    println!("another worker took over after {took:?}, with a ttl of {TTL:?}");
    assert!(took < TTL * 10);
    ends_once(&f, &runner, "1").await;
    assert_eq!(f.world.calls("chain/1/a/1/0"), 1);
    assert_eq!(f.world.calls("chain/1/b/1/0"), 2);
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_may_run_for_much_longer_than_a_lease_lasts() {
    let f = fixture().await;
    let ttl = Duration::from_millis(600);
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(f.worker::<Chain>().ttl(ttl).spawn().await.unwrap());
    }
    let runner = started(&f, "1", slow(3_000)).await;
    ends_once(&f, &runner, "1").await;
    assert!(f.world.keys().iter().all(|key| f.world.calls(key) == 1));
    for worker in workers {
        worker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stalls_past_its_lease_cannot_commit() {
    let f = fixture().await;
    let jobs = Jobs {
        b: Job {
            blocks_ms: 4_000,
            ..Job::default()
        },
        ..Jobs::default()
    };
    // A runtime of one thread, which an effect brings to a halt: no heartbeats, no commits.
    let stalls = f.worker::<Chain>().ttl(TTL).holder("stalls");
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let worker = stalls.spawn().await.unwrap();
            let _ = ended.await;
            worker.shutdown().await;
        });
    });
    let runner = started(&f, "1", jobs).await;
    eventually(async || f.world.calls("chain/1/b/1/0") == 1).await;
    let healthy = f.worker::<Chain>().ttl(TTL).spawn().await.unwrap();
    ends_once(&f, &runner, "1").await;
    assert_eq!(f.world.calls("chain/1/b/1/0"), 2);
    // It wakes up, and what it has to say changes nothing.
    tokio::time::sleep(Duration::from_secs(4)).await;
    ends_once(&f, &runner, "1").await;
    let _ = end.send(());
    thread.join().unwrap();
    healthy.shutdown().await;
    assert_eq!(f.world.calls("chain/1/c/1/0"), 1);
    eventually(async || f.leaks().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_the_lease_is_lost_is_delivered() {
    let f = fixture().await;
    let worker = f.worker::<Chain>().ttl(TTL).spawn().await.unwrap();
    let runner = started(&f, "1", slow(2_500)).await;
    eventually(async || f.world.calls("chain/1/b/1/0") == 1).await;
    // Somebody else has it, and does nothing about it.
    let sql = "UPDATE mire.sagas SET fence = nextval('mire.fences'), holder = 'somebody',
               lease_expires_at = clock_timestamp() + '1 hour', due_at = clock_timestamp() + '1 hour'";
    f.session().await.batch_execute(sql).await.unwrap();
    let answered = "SELECT count(*) FROM mire.events WHERE type = '$saga_answered'";
    eventually(async || f.number(answered).await == 1).await;
    assert_eq!(f.world.calls("chain/1/b/1/0"), 1);
    let sql = "UPDATE mire.sagas SET lease_expires_at = '-infinity', due_at = clock_timestamp()";
    f.session().await.batch_execute(sql).await.unwrap();
    ends_once(&f, &runner, "1").await;
    assert_eq!(f.world.calls("chain/1/b/1/0"), 1);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_finishes_what_runs_and_hands_the_rest_over() {
    let f = fixture().await;
    let one = f.worker::<Chain>().spawn().await.unwrap();
    let runner = started(&f, "1", slow(1_000)).await;
    eventually(async || f.world.calls("chain/1/b/1/0") == 1).await;
    one.shutdown().await;
    assert_eq!(
        runner.step_status("1", "b").await.unwrap(),
        mire_sagas::StepStatus::Completed
    );
    assert_eq!(f.world.calls("chain/1/c/1/0"), 0);
    let two = f.worker::<Chain>().spawn().await.unwrap();
    let begun = Instant::now();
    ends_once(&f, &runner, "1").await;
    println!("handed over within {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(f.world.keys().iter().all(|key| f.world.calls(key) == 1));
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_grace_is_over_effects_are_dropped_and_begun_anew_elsewhere() {
    let f = fixture().await;
    let grace = Duration::from_millis(300);
    let one = f.worker::<Chain>().grace(grace).spawn().await.unwrap();
    let runner = started(&f, "1", slow(6_000)).await;
    eventually(async || f.world.calls("chain/1/b/1/0") == 1).await;
    let begun = Instant::now();
    one.shutdown().await;
    println!("left within {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    let leased = "SELECT count(*) FROM mire.sagas WHERE lease_expires_at > clock_timestamp()";
    assert_eq!(f.number(leased).await, 0);
    let two = f.worker::<Chain>().spawn().await.unwrap();
    ends_once(&f, &runner, "1").await;
    assert_eq!(f.world.calls("chain/1/b/1/0"), 2);
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_database_is_survived() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start().unwrap())
        .await
        .unwrap();
    let url = cluster.url("mire");
    let world = World::default();
    let topology = || {
        <Chain as mire_sagas::Saga>::builder()
            .dep(world.clone())
            .build()
            .unwrap()
    };
    let store = || EventStore::builder().url(&url).build().unwrap();
    let worker = SagaWorker::builder(store())
        .saga(&topology())
        .ttl(Duration::from_secs(3))
        .recheck(Duration::from_millis(500))
        .spawn()
        .await
        .unwrap();
    let runner = SagaRunner::new(topology(), store());
    let mut tx = store().begin().await.unwrap();
    for n in 0..20 {
        let start = Start::new(n.to_string(), slow(800));
        runner.start_in(&mut tx, start).await.unwrap();
    }
    tx.commit().await.unwrap();
    eventually(async || world.keys().len() >= 30).await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster
            .expect_in_log("terminating connection due to administrator command")
            .unwrap();
        cluster.restart().unwrap();
        cluster
    })
    .await
    .unwrap();
    let runner = SagaRunner::new(topology(), store());
    for n in 0..20 {
        let ended = runner.wait_until_ended(&n.to_string(), SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    worker.shutdown().await;
    assert_eq!(world.keys().len(), 80);
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler_in_transaction_mode() {
    let f = fixture().await;
    let bouncer = f
        .database
        .cluster()
        .pgbouncer(PoolMode::Transaction)
        .unwrap();
    let store = || {
        EventStore::builder()
            .url(bouncer.url(&f.database.name))
            .pool_size(4)
            .build()
            .unwrap()
    };
    let worker = SagaWorker::builder(store())
        .saga(&f.topology::<Chain>())
        .saga(&f.topology::<Reference>())
        .ttl(TTL)
        .spawn()
        .await
        .unwrap();
    let chains = SagaRunner::new(f.topology::<Chain>(), store());
    let references = SagaRunner::new(f.topology::<Reference>(), store());
    let mut tx = store().begin().await.unwrap();
    for n in 0..20 {
        let start = Start::new(n.to_string(), slow(1_200));
        chains.start_in(&mut tx, start).await.unwrap();
    }
    tx.commit().await.unwrap();
    for n in 0..20 {
        let instance = n.to_string();
        references.start(&instance, "Rome".into()).await.unwrap();
        references
            .deliver(&instance, "flight", seat(n))
            .await
            .unwrap();
        references
            .deliver(&instance, "hotel", seat(n))
            .await
            .unwrap();
    }
    for n in 0..20 {
        let instance = n.to_string();
        let ended = references.wait_until_ended(&instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
        let ended = chains.wait_until_ended(&instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    worker.shutdown().await;
    assert!(f.world.keys().iter().all(|key| f.world.calls(key) == 1));
    assert_eq!(f.leaks().await, [""; 0]);
}
