use mire_client_derive::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
#[event_data(entity = "account")]
enum AccountEvent {
    Opened,
    #[event_data(alias = "account.opened")]
    Reopened,
}

fn main() {}
