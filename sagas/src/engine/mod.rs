//! The engine: a pure function from what has happened, what has just come in and the time, to what happens next. It does
//! no I/O, knows no clock and no database; workers, runners and simulations all go through [`drive`].

mod answers;
mod calls;
mod compensate;
mod drive;
mod forward;
mod summary;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::Value;

use crate::effect::EffectError;
use crate::history::{Fact, Instance};
use crate::topology::{Response, StepNo};

pub(crate) use crate::status::SagaStatus as Status;
pub(crate) use drive::drive;

/// Microseconds since 1970 by the database's clock.
pub(crate) type Micros = i64;

/// Something that happened outside of the log so far.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// An effect that this process ran has ended.
    Effect {
        step: StepNo,
        undo: bool,
        activation: u32,
        request: u32,
        result: Result<Response, EffectError>,
    },
    /// An answer that is committed together with what follows from it.
    Answer {
        step: String,
        undo: bool,
        /// None: whichever is active.
        activation: Option<u32>,
        request: u32,
        /// An error fails the step.
        answer: Result<Response, String>,
        id: Option<String>,
    },
}

/// A request for the outbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) key: String,
    pub(crate) step: String,
    pub(crate) undo: bool,
    pub(crate) activation: u32,
    pub(crate) request: u32,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// An effect to run in process once the facts are committed (or again, after a crash or a wait).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingEffect {
    pub(crate) step: StepNo,
    pub(crate) undo: bool,
    pub(crate) activation: u32,
    pub(crate) request: u32,
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

/// What a drive came to: commit it, then run the effects.
#[derive(Clone, Debug)]
pub(crate) struct Drive {
    /// Empty: nothing new, only the row is brought up to date.
    pub(crate) facts: Vec<Fact>,
    pub(crate) outbox: Vec<Message>,
    /// Keys of outbox requests that nobody waits for any more.
    pub(crate) withdraw: Vec<String>,
    /// Keys of outbox requests that are answered.
    pub(crate) settled: Vec<String>,
    /// All that may run now, those that run already included: compare by key.
    pub(crate) effects: Vec<PendingEffect>,
    /// When to drive again though nothing comes in: a timeout or a retry.
    pub(crate) due: Option<Duration>,
    pub(crate) status: Status,
    /// The steps that something is awaited for; an undo as `step~undo`.
    pub(crate) steps: Vec<String>,
    pub(crate) error: Option<String>,
    /// The instance with these facts applied.
    pub(crate) instance: Instance,
}

/// The idempotency key of one request: the same in every attempt, by whichever worker.
pub(crate) fn request_key(
    saga: &str,
    instance: &str,
    step: &str,
    undo: bool,
    activation: u32,
    request: u32,
) -> String {
    let undo = if undo { "~undo" } else { "" };
    format!("{saga}/{instance}/{step}{undo}/{activation}/{request}")
}
