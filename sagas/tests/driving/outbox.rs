//! Requests that leave the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mire_sagas::{
    Answer, ChildEnded, Emit, EmitPublisher, OutboxMessage, Outcome, Output, PublishError,
    Published, Saga, SagaBuilder, SagaRunner, SagaStatus, SagaWorker, Start, State, StepStatus,
    child, task,
};

use super::common::{
    Chain, Job, Jobs, Reference, Reserve, Reserved, SOON, Waiting, World, eventually, fixture, seat,
};

/// What a publisher does with a message, by its attempt.
type Behaviour = dyn Fn(&OutboxMessage, usize) -> Result<Published, PublishError> + Send + Sync;

#[derive(Clone)]
struct Recorder {
    published: Arc<Mutex<Vec<String>>>,
    tries: Arc<Mutex<HashMap<String, usize>>>,
    does: Arc<Behaviour>,
}

impl Recorder {
    fn new(
        does: impl Fn(&OutboxMessage, usize) -> Result<Published, PublishError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            published: Arc::default(),
            tries: Arc::default(),
            does: Arc::new(does),
        }
    }

    fn published(&self) -> Vec<String> {
        self.published.lock().unwrap().clone()
    }

    fn tries(&self, key: &str) -> usize {
        self.tries.lock().unwrap().get(key).copied().unwrap_or(0)
    }
}

impl EmitPublisher for Recorder {
    async fn publish(&self, message: &OutboxMessage) -> Result<Published, PublishError> {
        let tries = {
            let mut tries = self.tries.lock().unwrap();
            let tries = tries.entry(message.key.clone()).or_default();
            *tries += 1;
            *tries
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let published = (self.does)(message, tries)?;
        self.published.lock().unwrap().push(message.key.clone());
        Ok(published)
    }
}

fn answering(_: &OutboxMessage, _: usize) -> Result<Published, PublishError> {
    let answer = Answer::response(seat(1)).map_err(|e| PublishError::permanent(e.to_string()))?;
    Ok(Published::answered(answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_delivers_the_response() {
    let f = fixture().await;
    let recorder = Recorder::new(answering);
    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = f.worker::<Reference>().publisher(recorder.clone());
        workers.push(worker.spawn().await.unwrap());
    }
    let runner = f.runner::<Reference>();
    let starts = (0..40).map(|n| Start::new(n.to_string(), "Rome".to_owned()));
    for started in runner.start_batch(starts).await {
        started.unwrap();
    }
    for n in 0..40 {
        let instance = n.to_string();
        let ended = runner.wait_until_ended(&instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
        assert_eq!(f.world.calls(&format!("reference/{n}/pay/1/0")), 1);
    }
    for worker in workers {
        worker.shutdown().await;
    }
    let mut published = recorder.published();
    assert_eq!(published.len(), 80);
    published.sort();
    published.dedup();
    assert_eq!(published.len(), 80);
    assert_eq!(f.number("SELECT count(*) FROM mire.outbox").await, 0);
    assert_eq!(f.leaks().await, [""; 0]);
}

/// Nobody else has these instances in hand: an answer is part of the commit of what follows from it, and no event of its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_answers_is_committed_with_what_follows() {
    let f = fixture().await;
    let worker = f.worker::<Reference>().publisher(Recorder::new(answering));
    let worker = worker.spawn().await.unwrap();
    let runner = f.runner::<Reference>();
    for n in 0..10 {
        let instance = n.to_string();
        runner.start(&instance, "Rome".into()).await.unwrap();
        let ended = runner.wait_until_ended(&instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
        assert_eq!(f.world.calls(&format!("reference/{n}/pay/1/0")), 1);
    }
    worker.shutdown().await;
    let alone = "SELECT count(*) FROM mire.events WHERE type = '$saga_answered'";
    // One that comes while the worker is still laying the instance down is recorded alone.
    assert!(f.number(alone).await <= 5);
    assert_eq!(f.number("SELECT count(*) FROM mire.outbox").await, 0);
    assert_eq!(f.leaks().await, [""; 0]);
}

/// What has been claimed before may be what kills whoever goes on from its answer: that is counted where instances are claimed.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_message_that_was_claimed_before_is_recorded_alone() {
    let f = fixture().await;
    let recorder = Recorder::new(|message, tries| match tries {
        1 => Err(PublishError::transient("not now")),
        _ => answering(message, tries),
    });
    let worker = f.worker::<Reference>().publisher(recorder);
    let soon = Duration::from_millis(1);
    let worker = worker
        .publish_attempts(5, soon, soon)
        .spawn()
        .await
        .unwrap();
    let runner = f.runner::<Reference>();
    runner.start("1", "Rome".into()).await.unwrap();
    let ended = runner.wait_until_ended("1", SOON).await;
    assert_eq!(ended.unwrap(), SagaStatus::Completed);
    worker.shutdown().await;
    let alone = "SELECT count(*) FROM mire.events WHERE type = '$saga_answered'";
    assert_eq!(f.number(alone).await, 2);
    assert_eq!(f.number("SELECT count(*) FROM mire.outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_waits_for_its_answer() {
    let f = fixture().await;
    let recorder = Recorder::new(|_, _| Ok(Published::sent()));
    let worker = f.worker::<Reference>().publisher(recorder.clone());
    let worker = worker.spawn().await.unwrap();
    let runner = f.runner::<Reference>();
    runner.start("1", "Rome".into()).await.unwrap();
    let sent = "SELECT count(*) FROM mire.outbox WHERE status = 'sent'";
    eventually(async || f.number(sent).await == 1).await;
    runner.deliver("1", "flight", seat(1)).await.unwrap();
    eventually(async || recorder.published().len() == 2).await;
    eventually(async || f.number(sent).await == 1).await;
    runner.deliver("1", "hotel", seat(1)).await.unwrap();
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
    worker.shutdown().await;
    assert_eq!(
        recorder.published(),
        ["reference/1/flight/1/0", "reference/1/hotel/1/0"]
    );
    assert_eq!(f.leaks().await, [""; 0]);
}

/// Makes several requests at once.
struct Several;

impl Saga for Several {
    type State = u32;
    const NAME: &'static str = "several";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step(
            "ask",
            task(|State(n): State<u32>| {
                Emit::<Reserve>::many((0..n).map(|n| Reserve {
                    what: n.to_string(),
                }))
            })
            .on_each_response(|reserved: Reserved| reserved.seat)
            .terminal_success(),
        )
        .allow_unhandled::<Reserve>()
    }
}

/// The first of three is refused, so the step fails and the others are withdrawn, in doubt; but they are answered.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_when_its_step_has_failed_leaves_no_doubt() {
    let f = fixture().await;
    let recorder = Recorder::new(|message, tries| match message.request {
        0 => Ok(Published::answered(Answer::failure("no"))),
        _ => answering(message, tries),
    });
    let worker = f.worker::<Several>().publisher(recorder.clone());
    let worker = worker.spawn().await.unwrap();
    let runner = f.runner::<Several>();
    runner.start("1", 3).await.unwrap();
    runner.wait_until_ended("1", SOON).await.unwrap();
    eventually(async || recorder.published().len() == 3).await;
    worker.shutdown().await;
    assert_eq!(f.number("SELECT count(*) FROM mire.outbox").await, 0);
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_published_is_tried_again_and_keeps_its_place() {
    let f = fixture().await;
    let recorder = Recorder::new(|message, tries| {
        if message.request == 1 && message.instance == "1" && tries <= 3 {
            return match tries {
                2 => panic!("the publisher panics"),
                _ => Err(PublishError::transient("not now")),
            };
        }
        answering(message, tries)
    });
    let quick = Duration::from_millis(100);
    let worker = f
        .worker::<Several>()
        .publisher(recorder.clone())
        .publish_attempts(10, quick, quick);
    let worker = worker.spawn().await.unwrap();
    let runner = SagaRunner::new(Several::topology().unwrap(), f.store.clone());
    runner.start("1", 4).await.unwrap();
    runner.start("2", 4).await.unwrap();
    for instance in ["2", "1"] {
        let ended = runner.wait_until_ended(instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
    }
    assert_eq!(recorder.tries("several/1/ask/1/1"), 4);
    for instance in ["1", "2"] {
        let prefix = format!("several/{instance}/");
        let mut published = recorder.published();
        published.retain(|key| key.starts_with(&prefix));
        let wanted: Vec<_> = (0..4).map(|n| format!("{prefix}ask/1/{n}")).collect();
        assert_eq!(published, wanted);
    }
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_fails_the_step() {
    let f = fixture().await;
    let recorder = Recorder::new(|message, _| {
        Err(match message.instance.as_str() {
            "refused" => PublishError::permanent("no such address"),
            _ => PublishError::transient("nobody there"),
        })
    });
    let quick = Duration::from_millis(20);
    let worker = f
        .worker::<Waiting>()
        .publisher(recorder.clone())
        .publish_attempts(3, quick, quick);
    let worker = worker.spawn().await.unwrap();
    let runner = f.runner::<Waiting>();
    for (instance, tries) in [("refused", 1), ("unheard", 3)] {
        runner.start(instance, 60_000).await.unwrap();
        let ended = runner.wait_until_ended(instance, SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Compensated);
        assert_eq!(
            recorder.tries(&format!("waiting/{instance}/answer/1/0")),
            tries
        );
        assert_eq!(
            runner.step_status(instance, "answer").await.unwrap(),
            StepStatus::Failed
        );
    }
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

/// Never returns the first so many times that it is asked to publish this request.
#[derive(Clone)]
struct Stuck {
    request: u32,
    times: usize,
    rest: Recorder,
}

impl EmitPublisher for Stuck {
    async fn publish(&self, message: &OutboxMessage) -> Result<Published, PublishError> {
        if message.request == self.request && message.attempt as usize <= self.times {
            *self
                .rest
                .tries
                .lock()
                .unwrap()
                .entry(message.key.clone())
                .or_default() += 1;
            std::future::pending::<()>().await;
        }
        self.rest.publish(message).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_never_returns_gives_its_message_back() {
    const LIMIT: Duration = Duration::from_millis(200);
    for (times, wanted) in [
        (2, SagaStatus::Completed),
        (usize::MAX, SagaStatus::Compensated),
    ] {
        let f = fixture().await;
        let stuck = Stuck {
            request: 1,
            times,
            rest: Recorder::new(answering),
        };
        let quick = Duration::from_millis(20);
        let worker = f
            .worker::<Several>()
            .publisher(stuck.clone())
            .publish_timeout(LIMIT)
            .publish_attempts(3, quick, quick);
        let worker = worker.spawn().await.unwrap();
        let runner = SagaRunner::new(Several::topology().unwrap(), f.store.clone());
        let begun = Instant::now();
        runner.start("1", 3).await.unwrap();
        let ended = runner.wait_until_ended("1", SOON).await;
        assert_eq!(ended.unwrap(), wanted);
        assert_eq!(stuck.rest.tries("several/1/ask/1/1"), 3);
        assert!(begun.elapsed() >= 2 * LIMIT);
        if wanted == SagaStatus::Completed {
            let keys = (0..3).map(|n| format!("several/1/ask/1/{n}"));
            assert_eq!(stuck.rest.published(), keys.collect::<Vec<_>>());
        } else {
            let told = runner.describe("1").await.unwrap();
            assert!(told.contains("did not return within 200ms"), "{told}");
            assert!(told.contains("raise publish_timeout"), "{told}");
        }
        worker.shutdown().await;
        assert_eq!(f.leaks().await, [""; 0]);
    }
}

/// Has a chain done, and waits for its end.
struct Parent;

impl Saga for Parent {
    type State = Jobs;
    const NAME: &'static str = "parent";

    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga.step(
            "child",
            child(|State(jobs): State<Jobs>| Start::<Chain>::new("of-the-parent", jobs))
                .any_outcome(),
        )
        .step(
            "end",
            task(|Output(ended): Output<ChildEnded>| ended.outcome == Outcome::Completed)
                .after("child")
                .terminal_success(),
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_started_and_its_end_is_told_to_its_parent() {
    for (refused, wanted) in [
        (false, SagaStatus::Completed),
        (true, SagaStatus::Compensated),
    ] {
        let f = fixture().await;
        let parent = Parent::topology().unwrap();
        let worker = SagaWorker::builder(f.another_store())
            .saga(&parent)
            .saga(&f.topology::<Chain>())
            .spawn()
            .await
            .unwrap();
        let runner = SagaRunner::new(parent, f.store.clone());
        let jobs = Jobs {
            c: Job {
                refused,
                ..Job::default()
            },
            ..Jobs::default()
        };
        runner.start("1", jobs).await.unwrap();
        let ended = runner.wait_until_ended("1", SOON).await;
        assert_eq!(ended.unwrap(), SagaStatus::Completed);
        let children = f.runner::<Chain>();
        assert_eq!(children.status("of-the-parent").await.unwrap(), wanted);
        worker.shutdown().await;
        assert_eq!(f.leaks().await, [""; 0]);
    }
    let _ = World::default();
}
