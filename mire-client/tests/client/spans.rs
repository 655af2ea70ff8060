//! Every call has a span that says what it is about; payloads are in none, nor in what is logged.

use futures_util::TryStreamExt;
use mire_client::{ExpectedVersion, Json, Metadata, NewEvent, ReadAll, ReadStream};

use super::common::{Account, AccountEvent, NoDeposit, account_of, deposited, exactly, fixture};
use super::log::Log;

/// Never to be seen in a log.
const SECRET: &str = "Rumpelstiltskin";

struct Guess;

impl mire_client::Command for Guess {
    type Aggregate = Account;
    type Rejection = (NoDeposit, &'static str);

    fn decide(&self, _: &Account) -> Result<Vec<AccountEvent>, Self::Rejection> {
        Err((NoDeposit::Closed, SECRET))
    }
}

#[tokio::test]
async fn spans_say_what_a_call_is_about_and_nothing_of_its_payload() {
    let f = fixture().await;
    let (log, guard) = Log::listen();

    let metadata = Metadata::new().actor(SECRET);
    let secret = |event_type: &str| {
        let event = NewEvent::untyped(event_type, &serde_json::json!({ "cents": SECRET })).unwrap();
        event.with_metadata(&metadata).unwrap()
    };
    let append = |stream: &'static str, expected, event| f.store.append(stream, expected, [event]);
    append(
        "account-1",
        ExpectedVersion::NoStream,
        secret("account.deposited"),
    )
    .await
    .unwrap();
    assert!(
        append("account-1", exactly(7), secret("account.deposited"))
            .await
            .unwrap_err()
            .is_conflict()
    );
    let too_large = Json::from_text(format!("[\"{SECRET}\", 1e400000]")).unwrap();
    let too_large = NewEvent::untyped("account.deposited", &too_large).unwrap();
    let both = futures_util::future::join(
        append("account-2", ExpectedVersion::Any, too_large),
        append(
            "account-2",
            ExpectedVersion::Any,
            secret("account.deposited"),
        ),
    );
    assert!(both.await.0.unwrap_err().is_invalid());
    assert!(f.store.load::<Account>("1").await.unwrap_err().is_decode());
    append(
        "account-3",
        ExpectedVersion::NoStream,
        secret("account.unheard-of"),
    )
    .await
    .unwrap();
    assert!(f.store.load::<Account>("3").await.unwrap_err().is_decode());
    f.store.stream_version("account-1").await.unwrap();
    f.store
        .read_stream("account-1", ReadStream::new())
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    f.store.read_page(&ReadAll::new()).await.unwrap();
    assert!(
        f.store
            .repository::<Account>()
            .send("4", &Guess)
            .await
            .unwrap_err()
            .rejection()
            .is_some()
    );
    account_of(&f.store, "5", 3).await;
    let mut tx = f.store.begin().await.unwrap();
    let mut account = tx.load_locked::<Account>("5").await.unwrap();
    account.record(deposited(1));
    tx.save(&mut account).await.unwrap();
    tx.commit().await.unwrap();

    drop(guard);
    let log = log.text();
    assert!(
        !log.contains(SECRET),
        "{}",
        log.lines().find(|line| line.contains(SECRET)).unwrap()
    );
    for span in [
        "append{stream=\"account-1\" events=1}",
        "stream_version{stream=account-1}",
        "load{category=\"account\" id=1}",
        "send{category=\"account\" id=4",
        "save{stream=account-5 events=3}",
        "append_batch{items=1 events=1}",
    ] {
        assert!(log.contains(span), "{span} is missing:\n{log}");
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_logged_without_what_is_in_it() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    let nonsense = format!(r#"{{"owner": "", "cents": "{SECRET}", "closed": false}}"#);
    let save = "SELECT mire.save_snapshot('account-1', 1, 1, $1::text::jsonb)";
    f.session().await.execute(save, &[&nonsense]).await.unwrap();
    let (log, guard) = Log::listen();
    let loaded = f.store.load_snapshotted::<Account>("1").await.unwrap();
    drop(guard);
    assert_eq!(loaded.state().cents, 1);
    let log = log.text();
    assert!(log.contains("snapshot ignored"), "{log}");
    let ours = log.lines().filter(|line| line.contains("mire_client"));
    assert_eq!(
        ours.filter(|line| line.contains(SECRET)).count(),
        0,
        "{log}"
    );
}
