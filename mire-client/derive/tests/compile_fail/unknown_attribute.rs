use mire_client_derive::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
#[event_data(entity = "account", schema = 2)]
enum AccountEvent {
    Opened { owner: String },
}

fn main() {}
