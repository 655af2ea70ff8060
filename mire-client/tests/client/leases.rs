//! At most one acts on a lease, and whoever has lost it is told.

use std::time::{Duration, Instant};

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
    let session = f.session().await;
    proxy.cut_off();
    tokio::time::timeout(TTL * 2, lease.lost()).await.unwrap();
    let lost_at = Instant::now();
    assert!(lease.is_lost());
    // By the holder's count it is over no later than by the database's.
    let overdue = "SELECT extract(epoch FROM clock_timestamp() - expires_at)::float8 FROM mire.lease_status WHERE resource = 'report'";
    let overdue: f64 = session.query_one(overdue, &[]).await.unwrap().get(0);
    let to_wake_up = 0.05;
    assert!(
        overdue <= lost_at.elapsed().as_secs_f64() + to_wake_up,
        "{overdue}"
    );
    assert!(lease.release().await.unwrap_err().is_lease_lost());
}

#[test]
fn a_lease_whose_keeper_has_gone_does_not_say_it_is_held() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (first, second) = (runtime(), runtime());
    let f = second.block_on(fixture());
    let lease = first.block_on(async {
        let store = mire_client::EventStore::connect(&f.database.url)
            .await
            .unwrap();
        let lease = store
            .acquire_lease("report", "first", Duration::from_secs(60))
            .await;
        lease.unwrap().unwrap()
    });
    assert!(!lease.is_lost());
    drop(first);
    // At once, and not only when its time is up.
    assert!(lease.is_lost());
    second.block_on(async {
        tokio::time::timeout(TTL, lease.lost()).await.unwrap();
        assert!(lease.release().await.unwrap_err().is_lease_lost());
        assert!(
            f.store
                .acquire_lease("report", "second", TTL)
                .await
                .unwrap()
                .is_none()
        );
    });
}

#[tokio::test]
async fn a_holder_that_was_stopped_for_too_long_knows_at_once() {
    let f = fixture().await;
    let lease = f
        .store
        .acquire_lease("report", "holder", TTL)
        .await
        .unwrap();
    let lease = lease.unwrap();
    // Nothing else runs on this runtime meanwhile, the lease's keeper neither.
    std::thread::sleep(TTL + Duration::from_millis(50));
    assert!(lease.is_lost());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_could_not_be_given_back_is_not_said_to_be() {
    let f = fixture().await;
    let proxy = Proxy::before(f.database.cluster().port()).await;
    let url = format!("{}?connect_timeout=1", proxy.url(&f.database.name));
    let store = mire_client::EventStore::connect(&url).await.unwrap();
    let lease = store.acquire_lease("report", "far away", Duration::from_secs(60));
    let lease = lease.await.unwrap().unwrap();
    proxy.cut_off();
    let released = tokio::time::timeout(Duration::from_secs(20), lease.release()).await;
    released.expect("it is not waited for").unwrap_err();
    assert!(
        f.store
            .acquire_lease("report", "near", TTL)
            .await
            .unwrap()
            .is_none()
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
