//! What the tests share: a database each, and sagas whose effects do as the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mire_client::testing::{Database, shared};
use mire_client::{EventData, EventStore};
use mire_sagas::{
    Data, Dep, EffectError, Emit, IdempotencyKey, Req, RetryPolicy, Saga, SagaBuilder, SagaRunner,
    SagaWorker, SagaWorkerBuilder, State, comp, task,
};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

pub(crate) struct Fixture {
    pub(crate) database: Database<'static>,
    pub(crate) store: EventStore,
    pub(crate) world: World,
}

/// A fresh database, a store on it, and a world of its own.
pub(crate) async fn fixture() -> Fixture {
    let database = tokio::task::spawn_blocking(|| shared().fresh_database().unwrap())
        .await
        .unwrap();
    let store = EventStore::builder().url(&database.url).build().unwrap();
    Fixture {
        database,
        store,
        world: World::default(),
    }
}

impl Fixture {
    /// A plain session as superuser.
    pub(crate) async fn session(&self) -> tokio_postgres::Client {
        session(&self.database.url).await
    }

    /// A number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let row = self.session().await.query_one(sql, &[]).await;
        row.unwrap().get(0)
    }

    /// A store on connections of its own.
    pub(crate) fn another_store(&self) -> EventStore {
        EventStore::builder()
            .url(&self.database.url)
            .build()
            .unwrap()
    }

    pub(crate) fn runner<S: Saga>(&self) -> SagaRunner<S> {
        SagaRunner::new(self.topology::<S>(), self.store.clone())
    }

    pub(crate) fn topology<S: Saga>(&self) -> mire_sagas::SagaTopology<S> {
        S::builder().dep(self.world.clone()).build().unwrap()
    }

    /// A worker with connections of its own, quick to notice.
    pub(crate) fn worker<S: Saga>(&self) -> SagaWorkerBuilder {
        SagaWorker::builder(self.another_store())
            .saga(&self.topology::<S>())
            .recheck(Duration::from_millis(500))
    }

    /// What should not be, says the database.
    pub(crate) async fn leaks(&self) -> Vec<String> {
        let sql = "SELECT saga || '/' || instance || ': ' || reason FROM mire.saga_leaks";
        let rows = self.session().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

pub(crate) async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Where effects take place: it knows what was done, and how often.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<HashMap<String, Vec<Instant>>>>);

impl World {
    /// Counts a call; answers how many there have been of this key.
    pub(crate) fn enter(&self, key: &str) -> u32 {
        let mut calls = self.0.lock().unwrap();
        let of_key = calls.entry(key.to_owned()).or_default();
        of_key.push(Instant::now());
        u32::try_from(of_key.len()).unwrap()
    }

    pub(crate) fn calls(&self, key: &str) -> usize {
        self.0.lock().unwrap().get(key).map_or(0, Vec::len)
    }

    /// When an effect was called, in order.
    pub(crate) fn times(&self, key: &str) -> Vec<Instant> {
        self.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> = self.0.lock().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    }
}

/// Something an effect is to do, and how it goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, EventData)]
#[event_data(event_type = "job.do")]
pub(crate) struct Job {
    /// How long it takes.
    #[serde(default)]
    pub(crate) ms: u64,
    /// So often it fails before it succeeds.
    #[serde(default)]
    pub(crate) failures: u32,
    /// It fails for good.
    #[serde(default)]
    pub(crate) refused: bool,
    /// It panics the first time.
    #[serde(default)]
    pub(crate) panics: bool,
    /// The first time it brings the whole thread to a halt for so long.
    #[serde(default)]
    pub(crate) blocks_ms: u64,
    /// So often it never returns.
    #[serde(default)]
    pub(crate) hangs: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize, EventData)]
#[event_data(event_type = "job.undo")]
pub(crate) struct UndoJob {}

pub(crate) async fn work(
    Req(job): Req<Job>,
    Dep(world): Dep<World>,
    key: IdempotencyKey,
) -> Result<Data<u32>, EffectError> {
    let calls = world.enter(key.as_str());
    assert!(!job.panics || calls > 1, "the job panics");
    if calls == 1 && job.blocks_ms > 0 {
        std::thread::sleep(Duration::from_millis(job.blocks_ms));
    }
    if calls <= job.hangs {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(Duration::from_millis(job.ms)).await;
    if job.refused {
        return Err(EffectError::permanent("refused"));
    }
    if calls <= job.failures {
        return Err(EffectError::transient(format!("attempt {calls} fails")));
    }
    Ok(Data(calls))
}

pub(crate) async fn undo_work(_: Req<UndoJob>, Dep(world): Dep<World>, key: IdempotencyKey) {
    world.enter(key.as_str());
}

pub(crate) fn undo() -> Emit<UndoJob> {
    Emit::event(UndoJob {})
}

/// Four effects, one after the other, each with an undo.
pub(crate) struct Chain;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Jobs {
    pub(crate) a: Job,
    pub(crate) b: Job,
    pub(crate) c: Job,
    pub(crate) d: Job,
}

pub(crate) fn quick() -> RetryPolicy {
    RetryPolicy::default()
        .attempts(4)
        .backoff(Duration::from_millis(300), Duration::from_secs(2))
        .jitter(false)
}

impl Saga for Chain {
    type State = Jobs;
    const NAME: &'static str = "chain";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let job = |of: fn(Jobs) -> Job| {
            task(move |State(jobs): State<Jobs>| Emit::<Job>::event(of(jobs)))
                .effect(work)
                .retry(quick())
                .on_response(|Data(n): Data<u32>| n)
                .compensate(comp(undo).effect(undo_work))
        };
        saga.step("a", job(|jobs| jobs.a))
            .step("b", job(|jobs| jobs.b).after("a"))
            .step("c", job(|jobs| jobs.c).after("b"))
            .step("d", job(|jobs| jobs.d).after("c").terminal_success())
    }
}

/// Two effects that know nothing of each other, and a value after both.
pub(crate) struct Pair;

impl Saga for Pair {
    type State = Jobs;
    const NAME: &'static str = "pair";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let job = |of: fn(Jobs) -> Job| {
            task(move |State(jobs): State<Jobs>| Emit::<Job>::event(of(jobs)))
                .effect(work)
                .on_response(|Data(n): Data<u32>| n)
        };
        saga.step("a", job(|jobs| jobs.a))
            .step("b", job(|jobs| jobs.b))
            .step("both", task(|| true).after(["a", "b"]).terminal_success())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(event_type = "seat.reserve")]
pub(crate) struct Reserve {
    pub(crate) what: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(event_type = "seat.reserved")]
pub(crate) struct Reserved {
    pub(crate) seat: u32,
}

pub(crate) fn seat(seat: u32) -> Reserved {
    Reserved { seat }
}

/// The reference: two steps answered from outside, one effect, one value.
pub(crate) struct Reference;

impl Saga for Reference {
    type State = String;
    const NAME: &'static str = "reference";

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
            .step(
                "pay",
                task(|| Emit::<Job>::event(Job::default()))
                    .effect(work)
                    .on_response(|Data(n): Data<u32>| n)
                    .after("hotel"),
            )
            .step("confirm", task(|| "booked").after("pay").terminal_success())
            .allow_unhandled::<Reserve>()
    }
}

/// Waits for an answer from outside, as long as its state says (in milliseconds).
pub(crate) struct Waiting;

impl Saga for Waiting {
    type State = u64;
    const NAME: &'static str = "waiting";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step(
            "first",
            task(|| Emit::<Job>::event(Job::default()))
                .effect(work)
                .on_response(|Data(n): Data<u32>| n)
                .compensate(comp(undo).effect(undo_work)),
        )
        .step(
            "answer",
            task(|State(ms): State<u64>| {
                Emit::<Reserve>::event(Reserve {
                    what: "a seat".into(),
                })
                .timeout(Duration::from_millis(ms))
            })
            .after("first")
            .on_response(|reserved: Reserved| reserved.seat)
            .terminal_success(),
        )
        .allow_unhandled::<Reserve>()
    }
}

/// A slow effect, beside it an answer from outside with an effect after it.
pub(crate) struct Mixed;

impl Saga for Mixed {
    type State = Jobs;
    const NAME: &'static str = "mixed";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        let job = |of: fn(Jobs) -> Job| {
            task(move |State(jobs): State<Jobs>| Emit::<Job>::event(of(jobs)))
                .effect(work)
                .on_response(|Data(n): Data<u32>| n)
        };
        saga.step("slow", job(|jobs| jobs.a))
            .step(
                "answer",
                task(|| {
                    Emit::<Reserve>::event(Reserve {
                        what: "a seat".into(),
                    })
                })
                .on_response(|reserved: Reserved| reserved.seat)
                .compensate(comp(undo).effect(undo_work)),
            )
            .step("after", job(|jobs| jobs.b).after("answer"))
            .step(
                "end",
                task(|| true).after(["slow", "after"]).terminal_success(),
            )
            .signal_named("stop")
            .triggers_compensation()
            .signal::<Reserved>()
            .routes_to_step("answer")
            .allow_unhandled::<Reserve>()
    }
}

/// Waits for a condition that comes true by itself, and not for long.
pub(crate) async fn eventually<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(Instant::now() < deadline, "it does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) const SOON: Duration = Duration::from_secs(20);
