//! Who holds a partition keeps it while it works, and whoever has lost it cannot write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mire_client::{
    BoxError, Incoming, RetryPolicy, Transaction, Transactional, TransactionalHandler, sqlstate,
};

use super::common::{AccountEvent, account_of, fixture, session};
use super::read_models::{
    Balances, PATIENCE, TTL, balances, caught_up, run, runner, start, total, until, with_balances,
};

/// Takes its time when told to.
#[derive(Clone, Default)]
struct Slow {
    busy: Arc<AtomicBool>,
    balances: Balances,
    pause: Arc<Mutex<Duration>>,
}

impl TransactionalHandler for Slow {
    type Event = AccountEvent;

    async fn handle(
        &self,
        event: &Incoming<'_, AccountEvent>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        self.balances.handle(event, tx).await?;
        self.busy.store(true, Ordering::SeqCst);
        let until = Instant::now() + *self.pause.lock().unwrap();
        while Instant::now() < until {
            tokio::time::sleep(TTL / 8).await;
            tx.sql().batch_execute("SELECT").await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_kept_while_a_handler_works_for_longer_than_the_ttl() {
    let f = fixture().await;
    with_balances(&f).await;
    let slow = Slow::default();
    *slow.pause.lock().unwrap() = TTL * 2;
    account_of(&f.store, "1", 1).await;
    let build = || start(runner(&f.store).subscribe(balances(), Transactional(slow.clone())));
    let first = build().await;
    until("busy", || async { slow.busy.load(Ordering::SeqCst) }).await;
    let second = build().await;
    caught_up(&f.store, "balances").await;
    assert_eq!(slow.balances.attempts.load(Ordering::SeqCst), 1);
    assert_eq!(total(&f).await, (1, 1));
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_workers_writes_are_refused_by_the_database() {
    let f = fixture().await;
    with_balances(&f).await;
    let slow = Slow::default();
    *slow.pause.lock().unwrap() = Duration::from_millis(700);
    account_of(&f.store, "1", 1).await;
    let runner = start(runner(&f.store).subscribe(balances(), Transactional(slow.clone()))).await;
    until("busy", || async { slow.busy.load(Ordering::SeqCst) }).await;
    // Its checkpoints are moved from under it, which supersedes it, while it is in the middle of its transaction.
    let fence = f.number("SELECT fence FROM mire.checkpoints").await;
    f.store.reset_subscription("balances", 0).await.unwrap();
    *slow.pause.lock().unwrap() = Duration::ZERO;
    caught_up(&f.store, "balances").await;
    assert_eq!(
        slow.balances.attempts.load(Ordering::SeqCst),
        2,
        "handled twice,"
    );
    assert_eq!(total(&f).await, (1, 1), "and written once");
    assert!(f.number("SELECT fence FROM mire.checkpoints").await > fence);
    let session = session(&f.database.url).await;
    let refused = session
        .execute("SELECT mire.checkpoint('balances', 0, $1, 1)", &[&fence])
        .await
        .unwrap_err();
    assert_eq!(refused.code().unwrap().code(), sqlstate::LEASE_LOST);
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_the_server_has_forgotten_is_no_fault_of_the_handler() {
    let f = fixture().await;
    with_balances(&f).await;
    let slow = Slow::default();
    *slow.pause.lock().unwrap() = Duration::from_millis(700);
    account_of(&f.store, "1", 1).await;
    let never = runner(&f.store).retry(RetryPolicy::none());
    let runner = start(never.subscribe(balances(), Transactional(slow.clone()))).await;
    until("busy", || async { slow.busy.load(Ordering::SeqCst) }).await;
    // As a crash leaves it when synchronous_commit is off.
    *slow.pause.lock().unwrap() = Duration::ZERO;
    let forget = "UPDATE mire.checkpoints SET handed_out = checkpoint";
    f.session().await.batch_execute(forget).await.unwrap();
    caught_up(&f.store, "balances").await;
    assert_eq!(slow.balances.attempts.load(Ordering::SeqCst), 2);
    assert_eq!(total(&f).await, (1, 1), "handled twice and written once");
    let status = &f.store.subscription_status("balances").await.unwrap()[0];
    assert!(!status.paused && status.last_error.is_none(), "{status:?}");
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_epoch_stops_the_runner_until_it_is_confirmed() {
    let f = fixture().await;
    with_balances(&f).await;
    account_of(&f.store, "1", 1).await;
    let mut runner = run(&f.store, balances(), Balances::default()).await;
    caught_up(&f.store, "balances").await;
    f.session()
        .await
        .batch_execute("SELECT mire.new_epoch()")
        .await
        .unwrap();
    let error = tokio::time::timeout(PATIENCE, runner.stopped())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_epoch_changed(), "{error}");
    account_of(&f.store, "1", 1).await;

    let mut again = run(&f.store, balances(), Balances::default()).await;
    let error = tokio::time::timeout(PATIENCE, again.stopped())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_epoch_changed(), "a restart does not forget");
    assert_eq!(total(&f).await, (1, 1));

    f.store.confirm_epoch("balances").await.unwrap();
    let confirmed = run(&f.store, balances(), Balances::default()).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(total(&f).await, (2, 2));
    confirmed.shutdown().await.unwrap();
}
