use mire_client_derive::EventData;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, EventData)]
enum BankAccountEvent {
    Opened,
}

fn main() {}
