//! What README shows: an account whose state is its events, and a withdrawal that is decided on it.
//!
//! `cargo run -p mire-client --example quickstart`

use mire_client::{Aggregate, BoxError, Command, EventData, EventStore, testing};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "account")]
enum AccountEvent {
    Deposited { cents: i64 }, // stored as account.deposited
    Withdrawn { cents: i64 },
}

#[derive(Debug, Default)]
struct Account {
    cents: i64,
}

impl Aggregate for Account {
    type Event = AccountEvent;
    const CATEGORY: &'static str = "account"; // the stream of "ada" is account-ada

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

struct Withdraw(i64);

impl Command for Withdraw {
    type Aggregate = Account;
    type Rejection = &'static str;

    fn decide(&self, account: &Account) -> Result<Vec<AccountEvent>, &'static str> {
        if account.cents < self.0 {
            return Err("not enough money");
        }
        Ok(vec![AccountEvent::Withdrawn { cents: self.0 }])
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?; // CREATE EXTENSION where the role may, a handshake otherwise

    let mut account = store.load_or_default::<Account>("ada").await?;
    account.record(AccountEvent::Deposited { cents: 500 });
    store.save(&mut account).await?; // raises a conflict if somebody else was faster

    // Load, decide, save; after a conflict decide again on fresh state.
    let accounts = store.repository::<Account>().retry_conflicts(3);
    let sent = accounts.send("ada", &Withdraw(200)).await?;
    println!("{} cents left", sent.aggregate.state().cents);
    assert_eq!(sent.aggregate.state().cents, 300);
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
