//! What the tests share: a database each, and a small domain.

use mire_client::testing::{Database, shared};
use mire_client::{
    Aggregate, Command, EventData, EventStore, EventStoreBuilder, ExpectedVersion, NewEvent,
    Snapshot,
};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

pub(crate) struct Fixture {
    pub(crate) database: Database<'static>,
    pub(crate) store: EventStore,
}

/// A fresh database, and a store with default settings on it.
pub(crate) async fn fixture() -> Fixture {
    fixture_with(EventStore::builder()).await
}

pub(crate) async fn fixture_with(builder: EventStoreBuilder) -> Fixture {
    let database = tokio::task::spawn_blocking(|| shared().fresh_database().unwrap())
        .await
        .unwrap();
    let store = builder.url(&database.url).build().unwrap();
    Fixture { database, store }
}

impl Fixture {
    /// A plain session as superuser.
    pub(crate) async fn session(&self) -> tokio_postgres::Client {
        session(&self.database.url).await
    }

    /// A number that a query gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.session()
            .await
            .query_one(sql, &[])
            .await
            .unwrap()
            .get(0)
    }

    /// Every event id in the database, in position order.
    pub(crate) async fn event_ids(&self) -> Vec<uuid::Uuid> {
        let rows = self
            .session()
            .await
            .query("SELECT event_id FROM mire.events ORDER BY position", &[])
            .await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

pub(crate) async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Something to append that says which one it is.
pub(crate) fn note(number: usize) -> NewEvent {
    NewEvent::untyped("note.taken", &serde_json::json!({ "number": number })).unwrap()
}

pub(crate) fn exactly(version: usize) -> ExpectedVersion {
    ExpectedVersion::Exactly(i64::try_from(version).unwrap())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(entity = "account")]
pub(crate) enum AccountEvent {
    Opened { owner: String },
    Deposited { cents: i64 },
    Closed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) owner: String,
    pub(crate) cents: i64,
    pub(crate) closed: bool,
}

impl Aggregate for Account {
    type Event = AccountEvent;
    const CATEGORY: &'static str = "account";

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { owner } => self.owner.clone_from(owner),
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Closed => self.closed = true,
        }
    }
}

impl Snapshot for Account {
    const SCHEMA_VERSION: i32 = 1;
    const EVERY: i64 = 10;
}

pub(crate) fn opened() -> AccountEvent {
    AccountEvent::Opened {
        owner: "Ada".into(),
    }
}

pub(crate) fn deposited(cents: i64) -> AccountEvent {
    AccountEvent::Deposited { cents }
}

/// Puts money into an account that is not closed.
pub(crate) struct Deposit(pub(crate) i64);

#[derive(Debug, PartialEq)]
pub(crate) enum NoDeposit {
    Closed,
}

impl Command for Deposit {
    type Aggregate = Account;
    type Rejection = NoDeposit;

    fn decide(&self, account: &Account) -> Result<Vec<AccountEvent>, NoDeposit> {
        if account.closed {
            return Err(NoDeposit::Closed);
        }
        Ok(vec![deposited(self.0)])
    }
}

/// An account with so many deposits of one cent.
pub(crate) async fn account_of(store: &EventStore, id: &str, deposits: usize) {
    let mut account = store.load_or_default::<Account>(id).await.unwrap();
    account.record_many((0..deposits).map(|_| deposited(1)));
    store.save(&mut account).await.unwrap();
}

/// Waits for a condition that comes true by itself, and not for long.
pub(crate) async fn eventually<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds().await {
        assert!(
            std::time::Instant::now() < deadline,
            "it does not come true"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Events of the type `note.slow` take as many seconds to be inserted as their number says.
pub(crate) async fn with_slow_events(f: &Fixture) {
    let sql = "CREATE FUNCTION public.take_time(data jsonb) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
               BEGIN PERFORM pg_sleep((data ->> 'number')::float8); RETURN 1; END $$;
               CREATE INDEX take_time ON mire.events (public.take_time(data)) WHERE type = 'note.slow'";
    f.session().await.batch_execute(sql).await.unwrap();
}

pub(crate) fn slow(seconds: f64) -> NewEvent {
    NewEvent::untyped("note.slow", &serde_json::json!({ "number": seconds })).unwrap()
}

/// JSON that `jsonb` refuses: it spoils the whole batch it travels in.
pub(crate) fn poison() -> NewEvent {
    let number = mire_client::Json::from_text("1e400000").unwrap();
    NewEvent::untyped("note.taken", &number).unwrap()
}
