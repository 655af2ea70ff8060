//! Commands decide, aggregates fold: business rules without a database, and a repository that puts them to work.
//!
//! `cargo run -p mire-client --example commands`

use mire_client::{Aggregate, BoxError, Command, EventData, EventStore, Metadata, testing};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
#[event_data(entity = "order")]
enum OrderEvent {
    Placed { items: u32 },
    Shipped,
    Cancelled { reason: String },
}

#[derive(Debug, Default, PartialEq)]
enum Order {
    #[default]
    Nothing,
    Placed,
    Shipped,
    Cancelled,
}

impl Aggregate for Order {
    type Event = OrderEvent;
    const CATEGORY: &'static str = "order";

    fn apply(&mut self, event: &OrderEvent) {
        *self = match event {
            OrderEvent::Placed { .. } => Self::Placed,
            OrderEvent::Shipped => Self::Shipped,
            OrderEvent::Cancelled { .. } => Self::Cancelled,
        };
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("an order needs items")]
    Empty,
    #[error("not possible in state {0}")]
    WrongState(&'static str),
}

struct Place {
    items: u32,
}

impl Command for Place {
    type Aggregate = Order;
    type Rejection = Refused;

    fn decide(&self, order: &Order) -> Result<Vec<OrderEvent>, Refused> {
        match order {
            _ if self.items == 0 => Err(Refused::Empty),
            Order::Nothing => Ok(vec![OrderEvent::Placed { items: self.items }]),
            // Placing it twice is placing it once.
            Order::Placed => Ok(vec![]),
            Order::Shipped => Err(Refused::WrongState("shipped")),
            Order::Cancelled => Err(Refused::WrongState("cancelled")),
        }
    }
}

struct Cancel {
    reason: String,
}

impl Command for Cancel {
    type Aggregate = Order;
    type Rejection = Refused;

    fn decide(&self, order: &Order) -> Result<Vec<OrderEvent>, Refused> {
        match order {
            Order::Placed => Ok(vec![OrderEvent::Cancelled {
                reason: self.reason.clone(),
            }]),
            Order::Cancelled => Ok(vec![]),
            Order::Nothing => Err(Refused::WrongState("unknown")),
            Order::Shipped => Err(Refused::WrongState("shipped")),
        }
    }
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    // The rules alone, without a database.
    testing::given::<Order>([OrderEvent::Placed { items: 1 }, OrderEvent::Shipped])
        .when(&Cancel {
            reason: "changed my mind".into(),
        })
        .then_rejected(Refused::WrongState("shipped"));
    testing::given::<Order>([])
        .when(&Place { items: 2 })
        .then([OrderEvent::Placed { items: 2 }]);

    // And with one.
    let store = EventStore::connect(url).await?;
    store.migrate().await?;
    let orders = store
        .repository::<Order>()
        .retry_conflicts(3)
        .with_metadata(Metadata::new().correlation_id("web-request-1").actor("ada"));

    let id = uuid::Uuid::now_v7();
    let sent = orders.send(id, &Place { items: 3 }).await?;
    println!("placed: version {}", sent.aggregate.version());
    let sent = orders.send(id, &Place { items: 3 }).await?;
    println!("placed again: {} new events", sent.recorded.ids.len());
    orders
        .send(
            id,
            &Cancel {
                reason: "too late".into(),
            },
        )
        .await?;

    match orders.send(id, &Place { items: 1 }).await {
        Err(error) => println!("placed once more: {:?}", error.rejection()),
        Ok(_) => return Err("a cancelled order was placed".into()),
    }
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
