//! Several aggregates and the program's own SQL: together or not at all.

use std::time::Duration;

use mire_client::ExpectedVersion;

use super::common::{Account, account_of, deposited, exactly, fixture, note};

#[tokio::test(flavor = "multi_thread")]
async fn two_aggregates_and_a_table_change_together() {
    let f = fixture().await;
    f.session()
        .await
        .batch_execute("CREATE TABLE report (n bigint)")
        .await
        .unwrap();
    for commit in [true, false] {
        let mut tx = f.store.begin().await.unwrap();
        let mut a = tx.load_or_default::<Account>("a").await.unwrap();
        let mut b = tx.load_or_default::<Account>("b").await.unwrap();
        a.record(deposited(1));
        b.record(deposited(2));
        tx.save(&mut a).await.unwrap();
        tx.save(&mut b).await.unwrap();
        tx.append("note-1", ExpectedVersion::Any, [note(1)])
            .await
            .unwrap();
        tx.sql()
            .execute("INSERT INTO report VALUES (1)", &[])
            .await
            .unwrap();
        assert_eq!(
            tx.load::<Account>("a").await.unwrap().version(),
            a.version(),
            "it sees its own"
        );
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(f.event_ids().await.len(), 3);
        assert_eq!(f.number("SELECT count(*) FROM report").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_it_rolls_back_and_its_connection_is_fit_for_the_next() {
    let f = super::common::fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    drop(tx);
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 0);
    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_does_not_pretend_to_commit() {
    let f = super::common::fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    assert!(
        tx.append("note-1", exactly(7), [note(2)])
            .await
            .unwrap_err()
            .is_conflict()
    );
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("25P02"));
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_aggregate_is_nobody_elses_until_the_end() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    assert!(
        f.store
            .begin()
            .await
            .unwrap()
            .load_locked::<Account>("2")
            .await
            .unwrap_err()
            .is_not_found()
    );

    let mut tx = f.store.begin().await.unwrap();
    let mut locked = tx.load_locked::<Account>("1").await.unwrap();
    let mut other = f.store.load::<Account>("1").await.unwrap();
    other.record(deposited(100));
    let store = f.store.clone();
    let blocked = tokio::spawn(async move { store.save(&mut other).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!blocked.is_finished());
    locked.record(deposited(1));
    tx.save(&mut locked).await.unwrap();
    tx.commit().await.unwrap();
    assert!(blocked.await.unwrap().unwrap_err().is_conflict());
    assert_eq!(f.store.load::<Account>("1").await.unwrap().state().cents, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lockers_of_one_aggregate_take_turns_and_lose_nothing() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    let transfers = (0..20).map(|_| async {
        let mut tx = f.store.begin().await.unwrap();
        let mut account = tx.load_locked::<Account>("1").await.unwrap();
        account.record(deposited(1));
        tx.save(&mut account).await.unwrap();
        tx.commit().await.unwrap();
    });
    futures_util::future::join_all(transfers).await;
    assert_eq!(
        f.store.load::<Account>("1").await.unwrap().state().cents,
        21
    );
}
