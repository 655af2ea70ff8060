//! [`Instance`]: what the facts of one instance add up to.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fact::{Cause, Fact, Outcome, Parent, RecordedRequest};

/// How far a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepStatus {
    /// Not begun.
    #[default]
    Pending,
    /// Its requests are out.
    Active,
    /// It has its output.
    Completed,
    /// It was refused, or gave up.
    Failed,
    /// Nobody answered in time.
    TimedOut,
    /// Its turn will not come.
    Skipped,
    /// Still waiting when the instance turned back or ended.
    Abandoned,
}

/// How far the undoing of a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UndoStatus {
    /// Not begun.
    #[default]
    None,
    /// Its requests are out.
    Active,
    /// Undone.
    Done,
    /// The undo failed: an operator is needed.
    Failed,
    /// An operator said to go on without.
    Skipped,
}

/// One activation of a step or an undo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Activation {
    /// From 1.
    pub(crate) number: u32,
    pub(crate) at: i64,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) requests: Vec<RecordedRequest>,
}

/// What is known of one step, or of its undo.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) status: StepStatus,
    pub(crate) activation: Option<Activation>,
    pub(crate) output: Option<Value>,
    pub(crate) error: Option<String>,
}

/// What the facts of one instance add up to.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) saga: String,
    pub(crate) instance: String,
    /// Of the stream.
    pub(crate) version: i64,
    pub(crate) state: Value,
    pub(crate) trigger: Option<Value>,
    pub(crate) parent: Option<Parent>,
    pub(crate) steps: BTreeMap<String, Progress>,
    pub(crate) cause: Option<Cause>,
    pub(crate) outcome: Option<Outcome>,
}

impl Instance {
    /// An instance of which nothing has happened.
    pub(crate) fn new(saga: impl Into<String>, instance: impl Into<String>) -> Self {
        Self {
            saga: saga.into(),
            instance: instance.into(),
            version: 0,
            state: Value::Null,
            trigger: None,
            parent: None,
            steps: BTreeMap::new(),
            cause: None,
            outcome: None,
        }
    }

    /// Takes in one event of the stream. `at`: when it was recorded, in microseconds since 1970.
    pub(crate) fn apply(&mut self, version: i64, at: i64, facts: &[Fact]) {
        let _ = (version, at, facts);
    }
}
