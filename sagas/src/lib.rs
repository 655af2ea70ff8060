//! Sagas on pg_mire.

// The parts are joined one after the other.
#![allow(dead_code, unused_imports)]

mod effect;
mod engine;
mod history;
mod retry;
mod simulate;
mod topology;

pub use effect::EffectError;
pub use history::{Cause, Outcome, StepStatus, UndoStatus};
pub use retry::RetryPolicy;
pub use simulate::Simulation;
