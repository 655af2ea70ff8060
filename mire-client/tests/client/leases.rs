//! At most one acts on a lease, and whoever has lost it is told.

use std::time::Duration;

use mire_client::{ExpectedVersion, sqlstate};

use super::common::{fixture, note};
use super::proxy::Proxy;

const TTL: Duration = Duration::from_millis(900);

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_holds_it_for_longer_than_its_ttl_until_it_gives_it_back() {
    let f = fixture().await;
    let first = f
        .store
        .acquire_lease("report", "first", TTL)
        .await
        .unwrap()
        .unwrap();
    tokio::time::sleep(TTL * 2).await;
    assert!(!first.is_lost());
    assert!(
        f.store
            .acquire_lease("report", "second", TTL)
            .await
            .unwrap()
            .is_none()
    );
    let fence = first.fence();
    first.release().await.unwrap();
    let second = f
        .store
        .acquire_lease("report", "second", TTL)
        .await
        .unwrap()
        .unwrap();
    assert!(second.fence() > fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_holder_is_told_and_its_work_is_refused() {
    let f = fixture().await;
    let old = f
        .store
        .acquire_lease("report", "same name", TTL)
        .await
        .unwrap()
        .unwrap();
    let new = f
        .store
        .acquire_lease("report", "same name", TTL)
        .await
        .unwrap()
        .unwrap();

    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    let error = tx.assert_lease(&old).await.unwrap_err();
    assert!(error.is_lease_lost() && error.sqlstate() == Some(sqlstate::LEASE_LOST));
    assert!(tx.commit().await.is_err());
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 0);
    tokio::time::timeout(TTL, old.lost()).await.unwrap();
    assert!(old.is_lost());
    assert!(old.release().await.unwrap_err().is_lease_lost());

    let mut tx = f.store.begin().await.unwrap();
    tx.assert_lease(&new).await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(!new.is_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holders_own_long_transaction_does_not_stop_its_renewal() {
    let f = fixture().await;
    let lease = f
        .store
        .acquire_lease("report", "holder", TTL)
        .await
        .unwrap()
        .unwrap();
    let mut tx = f.store.begin().await.unwrap();
    tx.assert_lease(&lease).await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(TTL / 2).await;
        tx.sql().batch_execute("SELECT").await.unwrap();
    }
    tx.commit().await.unwrap();
    assert!(!lease.is_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_cannot_reach_the_database_knows_in_time() {
    let f = fixture().await;
    let proxy = Proxy::before(f.database.cluster().port()).await;
    let store = mire_client::EventStore::connect(&proxy.url(&f.database.name))
        .await
        .unwrap();
    let lease = store
        .acquire_lease("report", "far away", TTL)
        .await
        .unwrap()
        .unwrap();
    proxy.cut_off();
    tokio::time::timeout(TTL * 2, lease.lost()).await.unwrap();
    let successor = f.store.acquire_lease("report", "near", TTL);
    let successor = tokio::time::timeout(TTL, successor).await.unwrap().unwrap();
    // By the holder's count it is over no later than by the database's.
    assert!(
        successor.is_some() || !lease.is_lost() || {
            tokio::time::sleep(TTL / 2).await;
            f.store
                .acquire_lease("report", "near", TTL)
                .await
                .unwrap()
                .is_some()
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_guard_gives_its_lease_back() {
    let f = fixture().await;
    drop(
        f.store
            .acquire_lease("report", "first", Duration::from_secs(60))
            .await
            .unwrap()
            .unwrap(),
    );
    for _ in 0..50 {
        if f.store
            .acquire_lease("report", "second", TTL)
            .await
            .unwrap()
            .is_some()
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it was not given back");
}
