//! Sagas on pg_mire.

// The parts are joined one after the other.
#![allow(dead_code, unused_imports)]

mod calls;
mod effect;
mod engine;
mod error;
mod gather;
mod hand;
mod history;
pub mod measure;
mod retry;
mod simulate;
mod storage;
mod topology;

pub use effect::EffectError;
pub use error::{Error, Result};
pub use history::{Cause, Outcome, StepStatus, UndoStatus};
pub use retry::RetryPolicy;
pub use simulate::Simulation;
