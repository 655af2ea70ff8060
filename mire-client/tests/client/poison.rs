//! An event that its handler cannot handle stops or parks, as its subscription says, and nobody else.

use mire_client::{
    BoxError, ExpectedVersion, Handler, Incoming, OnFailure, Plain, Raw, RetryPolicy, Subscription,
    Transactional,
};

use super::common::{account_of, fixture, note};
use super::read_models::{
    Balances, Seen, balances, caught_up, run, runner, start, total, until, with_balances,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_attempt_wrote_is_rolled_back_and_the_subscription_stops_until_resumed() {
    let f = fixture().await;
    with_balances(&f).await;
    let handler = Balances::default();
    *handler.fail_on.lock().unwrap() = Some("3".into());
    for id in 1..=5 {
        account_of(&f.store, &id.to_string(), 1).await;
    }
    let runner = run(&f.store, balances(), handler.clone()).await;
    until("paused", || async {
        f.store.subscription_status("balances").await.unwrap()[0].paused
    })
    .await;
    assert_eq!(
        total(&f).await,
        (2, 2),
        "accounts 1 and 2, and nothing of 3"
    );
    let status = &f.store.subscription_status("balances").await.unwrap()[0];
    assert!(
        status
            .last_error
            .as_deref()
            .unwrap()
            .contains("told to fail"),
        "{status:?}"
    );
    assert_eq!(status.events_behind, 3);

    *handler.fail_on.lock().unwrap() = None;
    f.store.resume_subscription("balances").await.unwrap();
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (5, 5));
    assert!(
        f.store.subscription_status("balances").await.unwrap()[0]
            .last_error
            .is_none()
    );
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_parks_its_stream_and_others_go_on_until_an_operator_decides() {
    let f = fixture().await;
    with_balances(&f).await;
    let handler = Balances::default();
    *handler.fail_on.lock().unwrap() = Some("bad".into());
    let definition = balances().on_failure(OnFailure::Park).page(3, 1 << 20);
    let runner = run(&f.store, definition, handler.clone()).await;
    for n in 0..10 {
        account_of(&f.store, "bad", 1).await;
        account_of(&f.store, &format!("good{n}"), 1).await;
    }
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (10, 10), "the good ones");
    assert_eq!(
        f.store.subscription_status("balances").await.unwrap()[0].parked_streams,
        1
    );

    // Retried in vain: parked again.
    f.store
        .retry_parked("balances", "account-bad")
        .await
        .unwrap();
    until("parked again", || async {
        f.number("SELECT count(*) FROM mire.subscription_errors WHERE NOT retry AND attempts >= 4")
            .await
            == 1
    })
    .await;
    account_of(&f.store, "bad", 1).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (10, 10));

    // Retried with success: the first event and all that was held back, each once.
    *handler.fail_on.lock().unwrap() = None;
    f.store
        .retry_parked("balances", "account-bad")
        .await
        .unwrap();
    until("through", || async { total(&f).await == (21, 21) }).await;
    account_of(&f.store, "bad", 1).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (22, 22));
    assert_eq!(
        f.store.subscription_status("balances").await.unwrap()[0].parked_streams,
        0
    );

    // Skipped: one event is given up.
    *handler.fail_on.lock().unwrap() = Some("bad".into());
    account_of(&f.store, "bad", 3).await;
    caught_up(&f.store, "balances").await;
    *handler.fail_on.lock().unwrap() = None;
    f.store
        .skip_parked("balances", "account-bad")
        .await
        .unwrap();
    until("through", || async { total(&f).await == (24, 24) }).await;
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subscriptions_poison_never_stops_another() {
    let f = fixture().await;
    with_balances(&f).await;
    let seen = Seen::default();
    let broken = Balances::default();
    *broken.fail_on.lock().unwrap() = Some("1".into());
    let runner = start(
        runner(&f.store)
            .subscribe(balances(), Transactional(broken))
            .subscribe(Subscription::new("everything"), Plain(seen.clone()))
            .retry(RetryPolicy::none()),
    )
    .await;
    for id in 1..=9 {
        account_of(&f.store, &id.to_string(), 1).await;
    }
    caught_up(&f.store, "everything").await;
    assert_eq!(seen.0.lock().unwrap().len(), 9);
    until("paused", || async {
        f.store.subscription_status("balances").await.unwrap()[0].paused
    })
    .await;
    assert!(!f.store.subscription_status("everything").await.unwrap()[0].paused);
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_panic_is_a_failure_like_any_other() {
    struct Panics;
    impl Handler for Panics {
        type Event = Raw;
        async fn handle(&self, event: &Incoming<'_, Raw>) -> Result<(), BoxError> {
            assert!(event.recorded.stream != "note-2", "cannot stand note-2");
            Ok(())
        }
    }
    let f = fixture().await;
    for stream in ["note-1", "note-2", "note-3"] {
        f.store
            .append(stream, ExpectedVersion::Any, [note(1)])
            .await
            .unwrap();
    }
    let runner = start(
        runner(&f.store)
            .subscribe(
                Subscription::new("panics").on_failure(OnFailure::Park),
                Plain(Panics),
            )
            .retry(RetryPolicy::none()),
    )
    .await;
    caught_up(&f.store, "panics").await;
    let rows = f
        .session()
        .await
        .query("SELECT stream, error FROM mire.subscription_errors", &[])
        .await
        .unwrap();
    assert_eq!((rows.len(), rows[0].get::<_, &str>(0)), (1, "note-2"));
    assert!(rows[0].get::<_, String>(1).contains("cannot stand note-2"));
    runner.shutdown().await.unwrap();
}
