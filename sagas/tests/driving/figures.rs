//! What it costs: counted by the database.

use std::time::{Duration, Instant};

use mire_client::EventStore;
use mire_client::testing::Cluster;
use mire_sagas::{
    Answer, EmitPublisher, OutboxMessage, PublishError, Published, Saga, SagaRunner, SagaStatus,
    SagaTopology, SagaWorker, SagaWorkerBuilder, Start,
};

use super::common::{Chain, Job, Jobs, Reference, SOON, Waiting, World, eventually, seat, session};

/// A server of its own that counts.
struct Counted {
    cluster: Cluster,
    world: World,
}

#[derive(Debug)]
struct Counts {
    /// Of functions of the store, those that only look included.
    calls: i64,
    /// Commit records in the log.
    commits: i64,
    wal_bytes: i64,
    /// For people.
    #[allow(dead_code)] // shown
    by_function: String,
}

const CALLS: &str = "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_statements
    WHERE toplevel AND query ~ 'mire\\.'";
const BY_FUNCTION: &str = "
    SELECT coalesce(string_agg(format('%s %s in %s ms', calls, name, ms), ', ' ORDER BY calls DESC), '')
      FROM (SELECT substring(query FROM 'mire\\.([a-z_]+)') AS name, sum(calls) AS calls,
                   round(sum(total_exec_time)::numeric, 1) AS ms
              FROM pg_stat_statements
             WHERE toplevel AND query ~ 'mire\\.'
             GROUP BY 1) AS s";

impl Counted {
    async fn new() -> Self {
        let start = || {
            Cluster::builder()
                .setting("shared_preload_libraries", "pg_stat_statements")
                .setting("autovacuum", "off")
                .setting("checkpoint_timeout", "1h")
                .start()
                .unwrap()
        };
        let cluster = tokio::task::spawn_blocking(start).await.unwrap();
        let counted = Self {
            cluster,
            world: World::default(),
        };
        counted
            .run("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pg_walinspect")
            .await;
        counted
    }

    fn store(&self) -> EventStore {
        let url = self.cluster.url("mire");
        EventStore::builder().url(url).build().unwrap()
    }

    fn topology<S: Saga>(&self) -> SagaTopology<S> {
        S::builder().dep(self.world.clone()).build().unwrap()
    }

    fn runner<S: Saga>(&self) -> SagaRunner<S> {
        SagaRunner::new(self.topology::<S>(), self.store())
    }

    fn worker<S: Saga>(&self) -> SagaWorkerBuilder {
        SagaWorker::builder(self.store()).saga(&self.topology::<S>())
    }

    async fn run(&self, sql: &str) {
        let session = session(&self.cluster.url("mire")).await;
        session.batch_execute(sql).await.unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        let session = session(&self.cluster.url("mire")).await;
        session.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn text(&self, sql: &str) -> String {
        let session = session(&self.cluster.url("mire")).await;
        session.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// How often sessions of clients have had the log synced. They tell when they end: all others are to be closed.
    async fn syncs(&self) -> i64 {
        let others = "SELECT count(*) FROM pg_stat_activity
                       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        eventually(async || self.number(others).await == 0).await;
        let version = self.number("SELECT current_setting('server_version_num')::int8");
        self.number(if version.await < 180_000 {
            "SELECT wal_sync FROM pg_stat_wal"
        } else {
            "SELECT sum(fsyncs)::int8 FROM pg_stat_io
              WHERE object = 'wal' AND backend_type = 'client backend'"
        })
        .await
    }

    /// Counts what happens meanwhile.
    async fn count(&self, work: impl Future<Output = ()>) -> Counts {
        self.run("SELECT pg_stat_statements_reset()").await;
        // Not the insert position: what is not flushed yet cannot be looked into.
        let lsn = "SELECT pg_current_wal_flush_lsn()::text";
        let before = self.text(lsn).await;
        work.await;
        let after = self.text(lsn).await;
        let between = format!("'{before}', '{after}'");
        let commits = format!(
            "SELECT count(*) FROM pg_get_wal_records_info({between})
              WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%'"
        );
        let bytes = format!("SELECT pg_wal_lsn_diff('{after}', '{before}')::int8");
        Counts {
            calls: self.number(CALLS).await,
            by_function: self.text(BY_FUNCTION).await,
            commits: if before == after {
                0
            } else {
                self.number(&commits).await
            },
            wal_bytes: self.number(&bytes).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_saga_takes_at_most_five_calls_and_four_commits() {
    let c = Counted::new().await;
    let runner = c.runner::<Reference>();
    let whole = async |instance: &str| {
        runner.start(instance, "Rome".into()).await.unwrap();
        runner.deliver(instance, "flight", seat(1)).await.unwrap();
        runner.deliver(instance, "hotel", seat(2)).await.unwrap();
    };
    // Connections are made, statements prepared, tables have their first pages.
    whole("warm").await;
    let counts = c.count(whole("1")).await;
    println!("the reference saga by a runner: {counts:?}");
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
    assert!(counts.calls <= 5, "{counts:?}");
    assert!(counts.commits <= 4, "{counts:?}");
    assert!(counts.wal_bytes < 16_000, "{counts:?}");

    let counts = c
        .count(async {
            for n in 0..50 {
                whole(&format!("many-{n}")).await;
            }
        })
        .await;
    println!("fifty of them, one after the other: {counts:?}");
    assert!(counts.calls <= 250 && counts.commits <= 200, "{counts:?}");

    let counts = c
        .count(async {
            let names: Vec<String> = (0..50).map(|n| format!("together-{n}")).collect();
            futures_util::future::join_all(names.iter().map(|name| whole(name))).await;
        })
        .await;
    println!("fifty of them at the same time: {counts:?}");
    assert!(counts.commits <= 100, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_saga_syncs_the_log_four_times() {
    let c = Counted::new().await;
    let drive = async |names: std::ops::Range<usize>| {
        let runner = c.runner::<Reference>();
        for n in names {
            let instance = n.to_string();
            runner.start(&instance, "Rome".into()).await.unwrap();
            runner.deliver(&instance, "flight", seat(1)).await.unwrap();
            runner.deliver(&instance, "hotel", seat(2)).await.unwrap();
        }
    };
    drive(0..1).await;
    let before = c.syncs().await;
    drive(1..21).await;
    let syncs = c.syncs().await - before;
    println!("twenty reference sagas, one after the other: {syncs} syncs of the log");
    assert!((20..=80).contains(&syncs), "{syncs}");
}

struct Answering;

impl EmitPublisher for Answering {
    async fn publish(&self, _: &OutboxMessage) -> Result<Published, PublishError> {
        let answer = Answer::response(seat(1));
        let answer = answer.map_err(|e| PublishError::permanent(e.to_string()))?;
        Ok(Published::answered(answer))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_saga_with_worker_and_outbox_is_counted() {
    let c = Counted::new().await;
    let runner = c.runner::<Reference>();
    let worker = c.worker::<Reference>().publisher(Answering);
    let worker = worker
        .recheck(Duration::from_secs(60))
        .spawn()
        .await
        .unwrap();
    let ended = async |count: i64| {
        let sql = "SELECT count(*) FROM mire.sagas WHERE status = 'completed'";
        eventually(async || c.number(sql).await == count).await;
    };
    runner.start("warm", "Rome".into()).await.unwrap();
    ended(1).await;
    let counts = c
        .count(async {
            runner.start("1", "Rome".into()).await.unwrap();
            ended(2).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        })
        .await;
    println!("the reference saga with worker and outbox: {counts:?}");
    let counts = c
        .count(async {
            let starts = (0..100).map(|n| Start::new(format!("n{n}"), "Rome".to_owned()));
            for started in runner.start_batch(starts).await {
                started.unwrap();
            }
            ended(102).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        })
        .await;
    println!("a hundred of them at the same time: {counts:?}");
    assert!(counts.commits < 300, "{counts:?}");
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n_effects_take_at_most_n_and_one_commits_and_instances_share_them() {
    let c = Counted::new().await;
    let runner = c.runner::<Chain>();
    runner.start("warm", Jobs::default()).await.unwrap();
    let counts = c
        .count(async {
            runner.start("1", Jobs::default()).await.unwrap();
        })
        .await;
    println!("four effects, one after the other, by a runner: {counts:?}");
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
    assert!(counts.calls <= 5 && counts.commits <= 5, "{counts:?}");

    let worker = c.worker::<Chain>().recheck(Duration::from_secs(60));
    let worker = worker.spawn().await.unwrap();
    let store = c.store();
    let start = async |names: std::ops::Range<usize>, ms: u64| {
        let jobs = Jobs {
            a: Job {
                ms,
                ..Job::default()
            },
            ..Jobs::default()
        };
        let mut tx = store.begin().await.unwrap();
        for n in names.clone() {
            let start = Start::new(format!("w{n}"), jobs.clone());
            runner.start_in(&mut tx, start).await.unwrap();
        }
        tx.commit().await.unwrap();
        for n in names {
            let ended = runner.wait_until_ended(&format!("w{n}"), SOON).await;
            assert_eq!(ended.unwrap(), SagaStatus::Completed);
        }
    };
    start(0..1, 0).await;
    let counts = c.count(start(1..2, 0)).await;
    println!(
        "the same by a worker (a claim besides; looks of the one who waits included): {counts:?}"
    );
    assert!(counts.commits <= 7, "{counts:?}");
    let counts = c.count(start(2..102, 100)).await;
    println!("a hundred of them at the same time by a worker: {counts:?}");
    assert!(counts.commits <= 100, "{counts:?}");
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_waiting_instances_cost_an_idle_worker_next_to_nothing() {
    let c = Counted::new().await;
    let runner = c.runner::<Waiting>();
    let begun = Instant::now();
    let counts = c
        .count(async {
            for page in 0..20 {
                let names = (0..500).map(|n| Start::new(format!("{page}-{n}"), 3_600_000_u64));
                for started in runner.start_batch(names).await {
                    started.unwrap();
                }
            }
        })
        .await;
    let took = begun.elapsed();
    println!("10,000 instances with an effect each, up to their waiting: {took:?}, {counts:?}");
    let worker = c.worker::<Waiting>().spawn().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let cpu = cpu_time();
    let idle = Duration::from_secs(10);
    let counts = c.count(tokio::time::sleep(idle)).await;
    let cpu = cpu_time().saturating_sub(cpu);
    let sql = "SELECT coalesce(sum(total_exec_time), 0)::int8 FROM pg_stat_statements
               WHERE toplevel AND query ~ 'mire\\.saga|mire\\.outbox'";
    let busy = c.number(sql).await;
    println!(
        "an idle worker beside them, in {idle:?}: {counts:?}, {busy} ms of execution, {cpu:?} of CPU in this process"
    );
    assert!(counts.calls <= 25, "{counts:?}");
    assert_eq!(counts.commits, 0, "{counts:?}");
    assert!(cpu < Duration::from_millis(500));

    let begun = Instant::now();
    runner.deliver("7-7", "answer", seat(1)).await.unwrap();
    let ended = runner.wait_until_ended("7-7", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    println!(
        "one of them answered and ended within {:?}",
        begun.elapsed()
    );
    worker.shutdown().await;
}

/// Of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<i64> = after_name
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // utime and stime, in hundredths of a second; the state, which comes first, is no number.
    Duration::from_millis(u64::try_from(fields[10] + fields[11]).unwrap() * 10)
}
