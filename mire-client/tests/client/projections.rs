//! Read models that move with their checkpoint: effectively once, in order, of every kind of handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mire_client::{
    Batch, BatchHandler, BoxError, ExpectedVersion, Handler, Incoming, NewEvent, Plain,
    RetryPolicy, Subscription, Transaction, Transactional, UnknownEvents, projected_events,
    sqlstate,
};

use super::common::{Account, AccountEvent, account_of, exactly, fixture, note};
use super::read_models::{
    Balances, Seen, TTL, balances, caught_up, run, runner, start, total, until, with_balances,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_transactional_read_model_equals_the_log() {
    let f = fixture().await;
    with_balances(&f).await;
    for id in 0..20 {
        account_of(&f.store, &id.to_string(), 30).await;
    }
    let runner = run(&f.store, balances().partitions(4), Balances::default()).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (600, 600));
    // Live.
    for id in 0..20 {
        account_of(&f.store, &id.to_string(), 2).await;
    }
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (640, 640));
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_handler_sees_tombstones_and_erased_versions_are_no_disorder() {
    let f = fixture().await;
    for n in 0..10 {
        f.store
            .append("note-1", exactly(n), [note(n)])
            .await
            .unwrap();
    }
    f.store.truncate_stream("note-1", 8).await.unwrap();
    f.store
        .append("note-2", ExpectedVersion::NoStream, [note(0)])
        .await
        .unwrap();
    f.store
        .delete_stream("note-2", ExpectedVersion::Any)
        .await
        .unwrap();
    let seen = Seen::default();
    let runner =
        start(runner(&f.store).subscribe(Subscription::new("everything"), Plain(seen.clone())))
            .await;
    caught_up(&f.store, "everything").await;
    runner.shutdown().await.unwrap();
    let seen = seen.0.lock().unwrap();
    let of =
        |stream: &str| -> Vec<i64> { seen.iter().filter(|s| s.0 == stream).map(|s| s.1).collect() };
    assert_eq!(of("note-1"), [8, 9, 10, 11]);
    assert_eq!(
        seen.iter().filter(|s| s.2.starts_with('$')).count(),
        2,
        "{seen:?}"
    );
}

struct Sets(Arc<AtomicUsize>);

impl BatchHandler for Sets {
    type Event = AccountEvent;

    async fn handle(
        &self,
        events: &[Incoming<'_, AccountEvent>],
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        self.0.fetch_max(events.len(), Ordering::SeqCst);
        let (mut ids, mut cents) = (Vec::new(), Vec::new());
        for event in events {
            if let AccountEvent::Deposited { cents: c } = event.event {
                ids.push(event.id());
                cents.push(c);
            }
        }
        let sql = "INSERT INTO balances SELECT id, sum(c), count(*) FROM unnest($1::text[], $2::bigint[]) AS u (id, c) GROUP BY id
            ON CONFLICT (id) DO UPDATE SET cents = balances.cents + excluded.cents, events = balances.events + excluded.events";
        tx.sql().execute(sql, &[&ids, &cents]).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_gets_pages() {
    let f = fixture().await;
    with_balances(&f).await;
    for id in 0..10 {
        account_of(&f.store, &id.to_string(), 200).await;
    }
    let most = Arc::new(AtomicUsize::new(0));
    let runner = start(runner(&f.store).subscribe(balances(), Batch(Sets(most.clone())))).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (2000, 2000));
    assert!(most.load(Ordering::SeqCst) > 100);
    runner.shutdown().await.unwrap();
}

projected_events! {
    enum Known {
        Account(AccountEvent),
    }
}

struct Strict;

impl Handler for Strict {
    type Event = Known;

    async fn handle(&self, event: &Incoming<'_, Known>) -> Result<(), BoxError> {
        let Known::Account(_) = &event.event;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_events_are_skipped_or_refused_by_choice() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    let strange = NewEvent::untyped("account.unheard-of", &serde_json::json!({})).unwrap();
    f.store
        .append("account-1", ExpectedVersion::Any, [strange])
        .await
        .unwrap();
    let runner = start(
        runner(&f.store)
            .subscribe(
                Subscription::new("lenient").aggregate::<Account>(),
                Plain(Strict),
            )
            .subscribe(
                Subscription::new("strict")
                    .aggregate::<Account>()
                    .unknown_events(UnknownEvents::Refuse),
                Plain(Strict),
            )
            .retry(RetryPolicy::none()),
    )
    .await;
    caught_up(&f.store, "lenient").await;
    until("paused", || async {
        f.store.subscription_status("strict").await.unwrap()[0].paused
    })
    .await;
    let status = &f.store.subscription_status("strict").await.unwrap()[0];
    assert!(
        status.last_error.as_deref().unwrap().contains("unheard-of"),
        "{status:?}"
    );
    assert_eq!(
        status.checkpoint,
        f.number("SELECT min(position) FROM mire.events").await
    );
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_definition_under_the_same_name_is_refused() {
    let f = fixture().await;
    let runner = run(&f.store, balances(), Balances::default()).await;
    let clash = super::read_models::runner(&f.store)
        .subscribe(balances().partitions(2), Transactional(Balances::default()))
        .spawn()
        .await
        .unwrap_err();
    assert_eq!(clash.sqlstate(), Some(sqlstate::DUPLICATE_OBJECT));
    let error = f.store.wait_for("unheard-of", 1, TTL).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some(sqlstate::UNDEFINED_OBJECT));
    runner.shutdown().await.unwrap();
}
