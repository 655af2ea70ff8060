//! Answers and signals from outside.

use std::time::Duration;

use mire_sagas::{Answer, Delivery, Error, SagaStatus, Start, StepStatus, UndoStatus};

use super::common::{Job, Jobs, Mixed, Reference, SOON, Waiting, eventually, fixture, seat};

#[tokio::test(flavor = "multi_thread")]
async fn answers_take_an_instance_to_its_end() {
    let f = fixture().await;
    let runner = f.runner::<Reference>();
    runner.start("1", "Rome".into()).await.unwrap();
    assert_eq!(runner.active_steps("1").await.unwrap(), ["flight"]);
    let delivered = runner.deliver("1", "flight", seat(1)).await.unwrap();
    assert_eq!(delivered, Delivery::Driven);
    assert_eq!(runner.active_steps("1").await.unwrap(), ["hotel"]);
    let requests = runner.emitted_requests("1").await.unwrap();
    assert_eq!(requests[1].kind, "seat.reserve");
    assert_eq!(requests[1].data["what"], "hotel for Rome");
    assert!(requests[1].outbox && !requests[1].answered && requests[0].answered);
    runner.deliver("1", "hotel", seat(2)).await.unwrap();
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Completed);
    assert_eq!(f.world.calls("reference/1/pay/1/0"), 1);
    assert_eq!(f.number("SELECT count(*) FROM mire.outbox").await, 0);
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_of_several_processes_do_not_mind_each_other() {
    let f = fixture().await;
    let (one, two) = (f.runner::<Reference>(), f.runner::<Reference>());
    one.start("1", "Rome".into()).await.unwrap();
    two.deliver("1", "flight", seat(1)).await.unwrap();
    // What it remembers is out of date.
    one.deliver("1", "hotel", seat(2)).await.unwrap();
    assert_eq!(two.status("1").await.unwrap(), SagaStatus::Completed);
    // After the end, and twice.
    two.deliver("1", "hotel", seat(2)).await.unwrap();
    one.deliver("1", "flight", seat(3)).await.unwrap();
    assert_eq!(one.status("1").await.unwrap(), SagaStatus::Completed);
    assert_eq!(f.world.keys(), ["reference/1/pay/1/0"]);
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_answers_at_once_one_counts() {
    let f = fixture().await;
    let runners: Vec<_> = (0..4).map(|_| f.runner::<Reference>()).collect();
    runners[0].start("1", "Rome".into()).await.unwrap();
    for step in ["flight", "hotel"] {
        let all = (0..16_usize).map(|n| {
            let runner = runners[n % runners.len()].clone();
            async move {
                runner
                    .deliver("1", step, seat(u32::try_from(n).unwrap()))
                    .await
            }
        });
        for delivered in futures_util::future::join_all(all).await {
            delivered.unwrap();
        }
    }
    eventually(async || {
        runners[0].drive("1").await.unwrap();
        runners[0].status("1").await.unwrap() == SagaStatus::Completed
    })
    .await;
    let completed = runners[0].history("1").await.unwrap();
    let completed = completed
        .iter()
        .filter(|entry| entry.fact["fact"] == "completed" && entry.fact["step"] == "hotel");
    assert_eq!(completed.count(), 1);
    assert_eq!(f.world.calls("reference/1/pay/1/0"), 1);
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_an_instance_in_a_workers_hand_moves_it_on_at_once() {
    let f = fixture().await;
    let worker = f.worker::<Mixed>().spawn().await.unwrap();
    let runner = f.runner::<Mixed>();
    let jobs = Jobs {
        a: Job {
            ms: 2_000,
            ..Job::default()
        },
        ..Jobs::default()
    };
    let mut tx = f.store.begin().await.unwrap();
    runner
        .start_in(&mut tx, Start::new("1", jobs))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    eventually(async || f.world.calls("mixed/1/slow/1/0") == 1).await;
    let delivered = runner.deliver("1", "answer", seat(7)).await.unwrap();
    assert_eq!(delivered, Delivery::Recorded);
    eventually(async || f.world.calls("mixed/1/after/1/0") == 1).await;
    assert_eq!(
        runner.step_status("1", "slow").await.unwrap(),
        StepStatus::Active
    );
    assert_eq!(
        runner.wait_until_ended("1", SOON).await.unwrap(),
        SagaStatus::Completed
    );
    assert_eq!(f.world.calls("mixed/1/slow/1/0"), 1);
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_one_id_count_once() {
    let f = fixture().await;
    let runner = f.runner::<Mixed>();
    let worker = f.worker::<Mixed>().spawn().await.unwrap();
    let jobs = Jobs {
        a: Job {
            ms: 1_000,
            ..Job::default()
        },
        ..Jobs::default()
    };
    let mut tx = f.store.begin().await.unwrap();
    runner
        .start_in(&mut tx, Start::new("1", jobs))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    eventually(async || f.world.calls("mixed/1/slow/1/0") == 1).await;
    let answer = || Answer::response(seat(1)).unwrap().id("message-1");
    let first = runner.deliver_answer("1", "answer", answer()).await;
    assert_eq!(first.unwrap(), Delivery::Recorded);
    let second = runner.deliver_answer("1", "answer", answer()).await;
    assert_eq!(second.unwrap(), Delivery::Duplicate);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_known_again_whichever_way_the_answer_came() {
    let f = fixture().await;
    let (one, two) = (f.runner::<Waiting>(), f.runner::<Waiting>());
    one.start("1", 60_000).await.unwrap();
    let answer = || Answer::failure("sold out").id("message-1");
    let first = one.deliver_answer("1", "answer", answer()).await.unwrap();
    assert_eq!(first, Delivery::Driven);
    assert_eq!(one.status("1").await.unwrap(), SagaStatus::Compensated);
    for runner in [&one, &two] {
        let again = runner.deliver_answer("1", "answer", answer()).await;
        assert_eq!(again.unwrap(), Delivery::Duplicate);
    }

    one.start("2", 60_000).await.unwrap();
    let sql = r#"SELECT outcome FROM mire.saga_deliver(ARRAY['{"saga": "waiting", "instance": "2",
        "step": "first", "ok": false, "error": "late", "id": "message-2"}']::jsonb[])"#;
    f.session().await.query_one(sql, &[]).await.unwrap();
    let known = Answer::failure("late").id("message-2");
    for runner in [&two, &one] {
        let again = runner.deliver_answer("2", "first", known.clone()).await;
        assert_eq!(again.unwrap(), Delivery::Duplicate);
    }
    let answer = Answer::response(seat(1)).unwrap().id("message-3");
    one.deliver_answer("2", "answer", answer).await.unwrap();
    assert_eq!(one.status("2").await.unwrap(), SagaStatus::Completed);
    assert_eq!(two.step_states("2").await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_from_outside_turns_the_instance_back() {
    let f = fixture().await;
    let runner = f.runner::<Waiting>();
    runner.start("1", 60_000).await.unwrap();
    runner
        .deliver_failure("1", "answer", "sold out")
        .await
        .unwrap();
    assert_eq!(runner.status("1").await.unwrap(), SagaStatus::Compensated);
    assert_eq!(
        runner.undo_status("1", "first").await.unwrap(),
        UndoStatus::Done
    );
    let told = runner.describe("1").await.unwrap();
    assert!(told.contains("sold out"), "{told}");
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_good_answer_is_undone() {
    let f = fixture().await;
    let worker = f.worker::<Mixed>().spawn().await.unwrap();
    let runner = f.runner::<Mixed>();
    runner.start("1", Jobs::default()).await.unwrap();
    runner.cancel("1", "changed my mind").await.unwrap();
    assert_eq!(
        runner.wait_until_ended("1", SOON).await.unwrap(),
        SagaStatus::Cancelled
    );
    assert_eq!(f.world.calls("mixed/1/answer~undo/1/0"), 0);
    runner.deliver("1", "answer", seat(1)).await.unwrap();
    eventually(async || f.world.calls("mixed/1/answer~undo/1/0") == 1).await;
    eventually(async || runner.status("1").await.unwrap().is_ended()).await;
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_turn_back_or_answer_a_step() {
    let f = fixture().await;
    let worker = f.worker::<Mixed>().spawn().await.unwrap();
    let runner = f.runner::<Mixed>();
    runner.start("stopped", Jobs::default()).await.unwrap();
    runner.start("seated", Jobs::default()).await.unwrap();
    let stop = runner.signal_once("stopped", "stop", &(), "s-1").await;
    assert_eq!(stop.unwrap(), Delivery::Recorded);
    let again = runner.signal_once("stopped", "stop", &(), "s-1").await;
    assert_eq!(again.unwrap(), Delivery::Duplicate);
    runner.signal("seated", &seat(4)).await.unwrap();
    assert_eq!(
        runner.wait_until_ended("stopped", SOON).await.unwrap(),
        SagaStatus::Compensated
    );
    let seated = runner.wait_until_ended("seated", SOON).await;
    if seated.is_err() {
        println!("{}", runner.describe("seated").await.unwrap());
    }
    assert_eq!(seated.unwrap(), SagaStatus::Completed);
    let nobody = runner.signal_named("nobody", "stop", &()).await;
    assert!(nobody.unwrap_err().is_not_found());
    worker.shutdown().await;
    assert_eq!(f.leaks().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let f = fixture().await;
    let runner = f.runner::<Waiting>();
    runner.start("1", 60_000).await.unwrap();
    let unknown = runner.deliver("1", "nothing", seat(1)).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownStep { .. }));
    let no_undo = Answer::response(seat(1)).unwrap().undo();
    let no_undo = runner.deliver_answer("1", "answer", no_undo).await;
    assert!(no_undo.unwrap_err().is_invalid());
    let nobody = runner.deliver("2", "answer", seat(1)).await.unwrap_err();
    assert!(nobody.is_not_found());
    assert!(runner.cancel("2", "").await.unwrap_err().is_not_found());
    assert!(runner.resume("1").await.unwrap_err().is_state());
    let patience = Duration::from_millis(50);
    let waited = runner.wait_until_ended("1", patience).await.unwrap_err();
    assert!(waited.is_not_ended());
    assert!(runner.start("", 1).await.unwrap_err().is_invalid());
}
