use mire_client::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
enum BankAccountEvent {
    Opened,
}

fn main() {}
