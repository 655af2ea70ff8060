//! Two writers, one stream: the slower one learns of the conflict and decides again on fresh state.
//!
//! `cargo run -p mire-client --example concurrency`

use futures_util::future::try_join_all;
use mire_client::{Aggregate, BoxError, Command, EventData, EventStore, testing};
use serde::{Deserialize, Serialize};

const SEATS: u32 = 10;

#[derive(Debug, Serialize, Deserialize, EventData)]
#[event_data(entity = "show")]
enum ShowEvent {
    SeatTaken { by: String },
}

#[derive(Debug, Default)]
struct Show {
    taken: u32,
}

impl Aggregate for Show {
    type Event = ShowEvent;
    const CATEGORY: &'static str = "show";

    fn apply(&mut self, event: &ShowEvent) {
        match event {
            ShowEvent::SeatTaken { .. } => self.taken += 1,
        }
    }
}

struct TakeSeat {
    by: String,
}

impl Command for TakeSeat {
    type Aggregate = Show;
    type Rejection = &'static str;

    fn decide(&self, show: &Show) -> Result<Vec<ShowEvent>, &'static str> {
        if show.taken == SEATS {
            return Err("sold out");
        }
        Ok(vec![ShowEvent::SeatTaken {
            by: self.by.clone(),
        }])
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let store = EventStore::connect(url).await?;
    store.migrate().await?;

    // By hand: both load, both decide, one is too late.
    let id = uuid::Uuid::now_v7();
    let mut first = store.load_or_default::<Show>(id).await?;
    let mut second = store.load_or_default::<Show>(id).await?;
    first.record(ShowEvent::SeatTaken { by: "first".into() });
    second.record(ShowEvent::SeatTaken {
        by: "second".into(),
    });
    store.save(&mut first).await?;
    match store.save(&mut second).await {
        Err(error) if error.is_conflict() => println!("too late: {error}"),
        other => return Err(format!("expected a conflict, got {other:?}").into()),
    }

    // By command: the repository decides again, and nobody gets a seat that is not there.
    let shows = store.repository::<Show>().retry_conflicts(50);
    let buyers = (1..=15).map(|n| {
        let shows = shows.clone();
        async move {
            match shows
                .send(
                    id,
                    &TakeSeat {
                        by: format!("buyer {n}"),
                    },
                )
                .await
            {
                Ok(sent) => Ok((1, sent.retries)),
                Err(error) if error.rejection().is_some() => Ok((0, 0)),
                Err(error) => Err(BoxError::from(error.to_string())),
            }
        }
    });
    let outcomes = try_join_all(buyers).await?;
    let sold: u32 = outcomes.iter().map(|(sold, _)| sold).sum();
    let retries: u32 = outcomes.iter().map(|(_, retries)| retries).sum();
    println!(
        "15 buyers for {} seats: {sold} sold, {} went home; {retries} decisions taken again",
        SEATS - 1,
        15 - sold
    );
    assert_eq!(store.load::<Show>(id).await?.state().taken, SEATS);
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
