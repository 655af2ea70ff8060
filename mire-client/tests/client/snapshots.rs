//! Snapshots shorten loading, and are never trusted over the log.

use mire_client::{Aggregate, Snapshot};
use serde::{Deserialize, Serialize};

use super::common::{Account, AccountEvent, account_of, deposited, fixture};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_when_a_multiple_is_passed_and_loads_the_same() {
    let f = fixture().await;
    let mut account = f
        .store
        .load_or_default_snapshotted::<Account>("1")
        .await
        .unwrap();
    for _ in 0..3 {
        account.record_many((0..4).map(deposited));
        f.store.save_snapshotted(&mut account).await.unwrap();
    }
    assert_eq!(f.number("SELECT version FROM mire.snapshots").await, 12);
    let restored = f.store.load_snapshotted::<Account>("1").await.unwrap();
    assert_eq!(
        (restored.state(), restored.version()),
        (account.state(), 12)
    );
    assert_eq!(
        f.store.load::<Account>("1").await.unwrap().state(),
        restored.state()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_pending_events_is_refused_and_an_older_one_does_not_replace_a_newer() {
    let f = fixture().await;
    account_of(&f.store, "1", 2).await;
    let old = f.store.load::<Account>("1").await.unwrap();
    let mut new = f.store.load::<Account>("1").await.unwrap();
    new.record(deposited(1));
    assert!(f.store.take_snapshot(&new).await.unwrap_err().is_invalid());
    f.store.save(&mut new).await.unwrap();
    assert!(f.store.take_snapshot(&new).await.unwrap());
    assert!(!f.store.take_snapshot(&old).await.unwrap());
    assert_eq!(f.number("SELECT version FROM mire.snapshots").await, 3);
}

/// The same account, as another deployment sees it: the state has another shape and another schema version.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter {
    deposits: u64,
}

impl Aggregate for Counter {
    type Event = AccountEvent;
    const CATEGORY: &'static str = "account";

    fn apply(&mut self, event: &AccountEvent) {
        if let AccountEvent::Deposited { .. } = event {
            self.deposits += 1;
        }
    }
}

impl Snapshot for Counter {
    const SCHEMA_VERSION: i32 = 2;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deployments_with_different_schema_versions_do_not_disturb_each_other() {
    let f = fixture().await;
    account_of(&f.store, "1", 5).await;
    f.store
        .take_snapshot(&f.store.load::<Account>("1").await.unwrap())
        .await
        .unwrap();
    let counter = f.store.load_snapshotted::<Counter>("1").await.unwrap();
    assert_eq!(counter.state().deposits, 5);
    f.store.take_snapshot(&counter).await.unwrap();
    assert_eq!(f.number("SELECT count(*) FROM mire.snapshots").await, 2);
    assert_eq!(
        f.store
            .load_snapshotted::<Account>("1")
            .await
            .unwrap()
            .state()
            .cents,
        5
    );
    f.store.delete_snapshots::<Account>("1").await.unwrap();
    assert_eq!(f.number("SELECT count(*) FROM mire.snapshots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_read_is_ignored() {
    let f = fixture().await;
    account_of(&f.store, "1", 5).await;
    f.number(
        "SELECT 1::bigint FROM mire.save_snapshot('account-1', 5, 1, '{\"no\": \"account\"}')",
    )
    .await;
    let account = f.store.load_snapshotted::<Account>("1").await.unwrap();
    assert_eq!((account.state().cents, account.version()), (5, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_stream_loads_from_a_snapshot_that_covers_what_is_gone() {
    let f = fixture().await;
    account_of(&f.store, "1", 5).await;
    f.store
        .take_snapshot(&f.store.load::<Account>("1").await.unwrap())
        .await
        .unwrap();
    f.store.truncate_stream("account-1", 4).await.unwrap();
    let mut account = f.store.load_snapshotted::<Account>("1").await.unwrap();
    assert_eq!((account.state().cents, account.version()), (5, 6));
    account.record(deposited(1));
    f.store.save(&mut account).await.unwrap();
    assert_eq!(
        f.store
            .load_snapshotted::<Account>("1")
            .await
            .unwrap()
            .state()
            .cents,
        6
    );
}
