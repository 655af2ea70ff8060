use mire_client_derive::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
#[event_data(entity = "box")]
enum BoxEvent<T> {
    Filled { with: T },
}

fn main() {}
