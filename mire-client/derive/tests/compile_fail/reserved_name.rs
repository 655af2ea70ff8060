use mire_client_derive::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "$deleted")]
struct Deleted {}

#[derive(Serialize, Deserialize, EventData)]
#[event_data(event_type = "payment", entity = "order")]
struct Paid {}

fn main() {}
