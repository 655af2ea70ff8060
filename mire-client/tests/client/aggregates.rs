//! Aggregates and commands: load, decide, save; and what happens when it does not work.

use futures_util::TryStreamExt;
use mire_client::{ExpectedVersion, Metadata, NewEvent, ReadStream, SendError};

use super::common::{
    Account, AccountEvent, Deposit, NoDeposit, account_of, deposited, exactly, fixture, opened,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_loaded() {
    let f = fixture().await;
    assert!(
        f.store
            .load::<Account>("1")
            .await
            .unwrap_err()
            .is_not_found()
    );
    let mut account = f.store.load_or_default::<Account>("1").await.unwrap();
    account.record(opened());
    account.record_many([deposited(5), deposited(7), AccountEvent::Closed]);
    assert_eq!(account.version(), 0);
    let recorded = f.store.save(&mut account).await.unwrap();
    assert_eq!(
        (recorded.version, account.version(), account.pending().len()),
        (4, 4, 0)
    );

    let again = f.store.load::<Account>("1").await.unwrap();
    assert_eq!((again.state(), again.version()), (account.state(), 4));
    assert_eq!(again.state().cents, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn saving_nothing_sends_nothing() {
    let f = fixture().await;
    let mut account = f.store.load_or_default::<Account>("1").await.unwrap();
    assert!(f.store.save(&mut account).await.unwrap().ids.is_empty());
    assert!(!f.store.stream_exists("account-1").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_events_survive_a_failed_save() {
    let f = fixture().await;
    let mut slow = f.store.load_or_default::<Account>("1").await.unwrap();
    account_of(&f.store, "1", 1).await;
    slow.record(deposited(5));
    let pending = slow.pending()[0].id;
    assert!(f.store.save(&mut slow).await.unwrap_err().is_conflict());
    assert_eq!((slow.pending()[0].id, slow.version()), (pending, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_metadata_is_stored_with_each_event() {
    let f = fixture().await;
    let mut account = f.store.load_or_default::<Account>("1").await.unwrap();
    account.record(opened());
    account.set_metadata(Metadata::new().actor("ada"));
    account.record(deposited(1));
    f.store.save(&mut account).await.unwrap();
    let events: Vec<_> = f
        .store
        .read_stream("account-1", ReadStream::new())
        .try_collect()
        .await
        .unwrap();
    assert!(events[0].metadata.is_none());
    assert_eq!(events[1].metadata().unwrap().who(), Some("ada"));
    assert_eq!(events[1].decode::<AccountEvent>().unwrap(), deposited(1));
    assert!(events[1].recorded_at <= std::time::SystemTime::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_decided_again_on_fresh_state() {
    let f = fixture().await;
    let accounts = f.store.repository::<Account>().retry_conflicts(100);
    let sends = (0..20).map(|_| accounts.send("1", &Deposit(1)));
    let sent: Vec<_> = futures_util::future::try_join_all(sends).await.unwrap();
    assert!(sent.iter().any(|sent| sent.retries > 0));
    assert_eq!(
        f.store.load::<Account>("1").await.unwrap().state().cents,
        20
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_bounded_and_a_rejection_is_none() {
    let f = fixture().await;
    let accounts = f.store.repository::<Account>();
    let sends = (0..20).map(|_| accounts.send("1", &Deposit(1)));
    let outcomes = futures_util::future::join_all(sends).await;
    assert!(
        outcomes
            .iter()
            .any(|o| matches!(o, Err(SendError::Store(e)) if e.is_conflict()))
    );

    let mut account = f.store.load::<Account>("1").await.unwrap();
    account.record(AccountEvent::Closed);
    f.store.save(&mut account).await.unwrap();
    let rejected = accounts.send("1", &Deposit(1)).await.unwrap_err();
    assert_eq!(rejected.rejection(), Some(&NoDeposit::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_whole_is_not_loaded() {
    let f = fixture().await;
    account_of(&f.store, "cut", 5).await;
    f.store.truncate_stream("account-cut", 3).await.unwrap();
    assert!(
        f.store
            .load::<Account>("cut")
            .await
            .unwrap_err()
            .is_hydration()
    );

    account_of(&f.store, "gone", 1).await;
    f.store
        .delete_stream("account-gone", ExpectedVersion::Any)
        .await
        .unwrap();
    assert!(
        f.store
            .load::<Account>("gone")
            .await
            .unwrap_err()
            .is_deleted()
    );
    assert!(
        f.store
            .load_or_default::<Account>("gone")
            .await
            .unwrap_err()
            .is_deleted()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_aggregate_does_not_know_is_an_error() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    let foreign = NewEvent::untyped("account.frozen", &serde_json::json!({})).unwrap();
    f.store
        .append("account-1", exactly(1), [foreign])
        .await
        .unwrap();
    let error = f.store.load::<Account>("1").await.unwrap_err();
    assert!(
        error.is_decode() && error.to_string().contains("account.frozen"),
        "{error}"
    );

    let misshapen =
        NewEvent::untyped("account.deposited", &serde_json::json!({ "cents": "five" })).unwrap();
    f.store
        .append("account-2", ExpectedVersion::NoStream, [misshapen])
        .await
        .unwrap();
    assert!(f.store.load::<Account>("2").await.unwrap_err().is_decode());
}
