use mire_client_derive::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
#[event_data(entity = "account")]
#[serde(rename_all = "camelCase", tag = "type")]
enum AccountEvent {
    Opened { owner: String },
}

fn main() {}
