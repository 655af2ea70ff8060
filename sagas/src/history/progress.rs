//! [`Progress`]: how far a step, or its undo, is.

use serde_json::Value;

use super::fact::RecordedRequest;

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

impl From<StepStatus> for UndoStatus {
    fn from(status: StepStatus) -> Self {
        match status {
            StepStatus::Pending => Self::None,
            StepStatus::Active => Self::Active,
            StepStatus::Completed => Self::Done,
            StepStatus::Failed | StepStatus::TimedOut | StepStatus::Abandoned => Self::Failed,
            StepStatus::Skipped => Self::Skipped,
        }
    }
}

/// One activation of a step or an undo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Activation {
    /// From 1.
    pub(crate) number: u32,
    /// Microseconds since 1970.
    pub(crate) at: i64,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) requests: Vec<Asked>,
    /// Its place among all facts of the instance.
    pub(crate) order: u64,
}

impl Activation {
    pub(crate) fn deadline(&self) -> Option<i64> {
        let timeout = i64::try_from(self.timeout_ms?).unwrap_or(i64::MAX);
        Some(self.at.saturating_add(timeout.saturating_mul(1000)))
    }
}

/// One request of an activation, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) request: RecordedRequest,
    pub(crate) answer: Option<Answer>,
    /// Failed attempts of its effect.
    pub(crate) attempts: u32,
    /// Not to be tried before; microseconds since 1970.
    pub(crate) retry_at: i64,
}

/// An answer as it came in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) activation: Option<u32>,
    pub(crate) request: u32,
    pub(crate) ok: bool,
    pub(crate) kind: Option<String>,
    pub(crate) data: Value,
    pub(crate) error: Option<String>,
    /// Its place among all facts of the instance.
    pub(crate) order: u64,
}

/// How far a step, or its undo, is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) status: StepStatus,
    /// The latest.
    pub(crate) activation: Option<Activation>,
    pub(crate) output: Option<Value>,
    pub(crate) error: Option<String>,
    /// Answers to an activation that is still to come.
    pub(crate) early: Vec<Answer>,
    /// The place among all facts of the latest good answer that came when the step had been given up.
    pub(crate) late: Option<u64>,
    /// The place among all facts of its latest beginning: of its activation, or of its end when it needed none.
    pub(crate) order: u64,
    /// An operator wants it tried again now, or left out.
    pub(crate) retry: bool,
    pub(crate) skip: bool,
}

impl Progress {
    pub(crate) fn is_active(&self) -> bool {
        self.status == StepStatus::Active
    }

    pub(crate) fn was_activated(&self) -> bool {
        self.activation.is_some()
    }

    /// Given up, as opposed to completed, skipped or not yet done.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(
            self.status,
            StepStatus::Failed | StepStatus::TimedOut | StepStatus::Abandoned
        )
    }

    pub(crate) fn next_activation(&self) -> u32 {
        self.activation.as_ref().map_or(1, |a| a.number + 1)
    }

    pub(crate) fn good_answers(&self) -> impl Iterator<Item = &Answer> {
        let asked = self.activation.iter().flat_map(|a| &a.requests);
        asked
            .filter_map(|asked| asked.answer.as_ref())
            .filter(|answer| answer.ok)
    }

    pub(super) fn activate(&mut self, mut activation: Activation) {
        let number = activation.number;
        self.early.retain(|answer| {
            if answer.activation.is_some_and(|n| n != number) {
                return true;
            }
            if let Some(asked) = activation.requests.get_mut(answer.request as usize) {
                asked.answer.get_or_insert_with(|| answer.clone());
            }
            false
        });
        self.order = activation.order;
        self.activation = Some(activation);
        self.status = StepStatus::Active;
        self.error = None;
        self.retry = false;
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        let next = self.next_activation();
        let current = answer.activation.is_none_or(|n| n + 1 == next);
        if self.status == StepStatus::Pending || answer.activation.is_some_and(|n| n >= next) {
            self.early.push(answer);
            return;
        }
        let given_up = self.is_given_up();
        if !current || !(self.is_active() || given_up && answer.ok) {
            return;
        }
        let asked = self.activation.as_mut().map(|a| &mut a.requests);
        if let Some(asked) = asked.and_then(|asked| asked.get_mut(answer.request as usize))
            && !asked
                .answer
                .as_ref()
                .is_some_and(|known| known.ok || !given_up)
        {
            self.late = given_up.then_some(answer.order);
            asked.answer = Some(answer);
        }
    }
}
