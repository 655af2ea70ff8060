//! The smallest useful program: an account that is nothing but its events.
//!
//! `cargo run -p mire-client --example bank_account`

use futures_util::StreamExt;
use mire_client::{Aggregate, BoxError, EventData, EventStore, ReadStream, testing};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "account")]
enum AccountEvent {
    Opened { owner: String },
    Deposited { cents: i64 },
    Withdrawn { cents: i64 },
}

#[derive(Debug, Default)]
struct Account {
    owner: String,
    cents: i64,
}

impl Aggregate for Account {
    type Event = AccountEvent;
    const CATEGORY: &'static str = "account";

    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { owner } => self.owner.clone_from(owner),
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;

    let mut account = store.load_or_default::<Account>("bank_account").await?;
    if account.version() == 0 {
        account.record(AccountEvent::Opened {
            owner: "Ada".into(),
        });
    }
    account.record(AccountEvent::Deposited { cents: 1_000 });
    account.record(AccountEvent::Withdrawn { cents: 250 });
    let recorded = store.save(&mut account).await?;
    println!(
        "saved versions {:?} of {}",
        recorded.versions(),
        recorded.stream
    );

    let again = store.load::<Account>("bank_account").await?;
    println!("{} has {} cents", again.state().owner, again.state().cents);
    assert_eq!(again.state().cents, account.state().cents);

    let mut history = store.read_stream(again.stream(), ReadStream::new());
    while let Some(event) = history.next().await {
        let event = event?;
        println!(
            "{:>3}  {:<20} {}",
            event.version,
            event.event_type,
            event.data.as_str()
        );
    }
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
