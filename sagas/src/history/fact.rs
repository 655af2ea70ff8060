//! [`Fact`]: what an instance's stream consists of. Facts are never changed once a release has written them: old instances
//! must be read for as long as they live. New fields are optional.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that happened to an instance. An event of its stream carries those that one commit decided together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(crate) enum Fact {
    Started {
        state: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trigger: Option<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<Parent>,
    },
    /// From here on its requests may have had an effect.
    Activated {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        /// From 1, for step and undo apart.
        activation: u32,
        requests: Vec<RecordedRequest>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// An answer to one of several requests, or one from outside.
    Answered {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        /// Absent: whichever is active.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        activation: Option<u32>,
        #[serde(default)]
        request: u32,
        #[serde(default = "yes")]
        ok: bool,
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        #[serde(default)]
        data: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// The effect of a request failed and is tried again when `retry_ms` have passed.
    AttemptFailed {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        activation: u32,
        request: u32,
        /// From 1.
        attempt: u32,
        error: String,
        retry_ms: u64,
    },
    Completed {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
        /// Of the answer that completed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    Failed {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        error: String,
        /// Of the answer that failed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    TimedOut {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
    },
    Skipped {
        step: String,
        #[serde(default, skip_serializing_if = "is_false")]
        undo: bool,
        why: String,
    },
    /// Still waiting when the instance turned back or ended.
    Abandoned {
        step: String,
    },
    CompensationStarted {
        cause: Cause,
    },
    Ended {
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// An undo failed, and everything else that can be done has been done.
    InterventionNeeded {
        error: String,
    },
    Signalled {
        signal: String,
        #[serde(default)]
        data: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    CancelRequested {
        #[serde(default)]
        reason: String,
        #[serde(default)]
        by: String,
    },
    CompensationRequested {
        #[serde(default)]
        reason: String,
        #[serde(default)]
        by: String,
    },
    /// Absent step: every failed undo.
    RetryRequested {
        #[serde(default)]
        step: Option<String>,
        #[serde(default)]
        by: String,
    },
    SkipRequested {
        step: String,
        #[serde(default)]
        by: String,
    },
    Parked {
        reason: String,
        #[serde(default)]
        by: String,
    },
    Resumed {
        #[serde(default)]
        by: String,
    },
    Migrated {
        from: i32,
        to: i32,
        #[serde(default)]
        by: String,
    },
}

/// One request of an activation, as it was committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RecordedRequest {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) data: Value,
    /// Went to the outbox; otherwise an effect fulfils it in process.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) outbox: bool,
}

/// The step of another instance that waits for this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parent {
    pub(crate) saga: String,
    pub(crate) instance: String,
    pub(crate) step: String,
    pub(crate) activation: u32,
    pub(crate) request: u32,
}

/// Why an instance turned back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Cause {
    /// A step failed.
    StepFailed {
        /// Which one.
        step: String,
        /// What it said.
        error: String,
    },
    /// A step was not answered in time.
    TimedOut {
        /// Which one.
        step: String,
    },
    /// A step marked as a terminal failure was reached.
    TerminalFailure {
        /// Which one.
        step: String,
    },
    /// A signal that triggers compensation arrived.
    Signal {
        /// Its name.
        signal: String,
    },
    /// Somebody cancelled the instance.
    Cancelled {
        /// What they said.
        reason: String,
    },
    /// An operator forced it.
    Forced {
        /// What they said.
        reason: String,
    },
    /// A step that had been given up succeeded after all.
    LateAnswer {
        /// Which one.
        step: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StepFailed { step, error } => write!(f, "step {step} failed: {error}"),
            Self::TimedOut { step } => write!(f, "step {step} was not answered in time"),
            Self::TerminalFailure { step } => write!(f, "the terminal failure {step} was reached"),
            Self::Signal { signal } => write!(f, "signal {signal}"),
            Self::Cancelled { reason } => write!(f, "cancelled: {reason}"),
            Self::Forced { reason } => write!(f, "compensation was forced: {reason}"),
            Self::LateAnswer { step } => {
                write!(f, "step {step} succeeded after it had been given up")
            }
        }
    }
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Every step that was to be done is done.
    Completed,
    /// A step failed, and what had been done is undone.
    Compensated,
    /// A terminal failure was reached, and what had been done is undone.
    Failed,
    /// Cancelled, and what had been done is undone.
    Cancelled,
}

impl Outcome {
    /// As the database's status says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

// serde's skip_serializing_if wants a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

fn yes() -> bool {
    true
}
