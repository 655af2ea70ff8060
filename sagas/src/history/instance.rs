//! [`Instance`]: what the facts of one instance add up to. A pure fold that knows no topology: it reads histories of
//! every version, and the same facts give the same instance wherever they come from.

use std::collections::{BTreeMap, BTreeSet};

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

    fn activate(&mut self, mut activation: Activation) {
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

    fn answer(&mut self, answer: Answer) {
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

/// A signal that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signalled {
    pub(crate) signal: String,
    pub(crate) data: Value,
    pub(crate) order: u64,
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
    pub(crate) undos: BTreeMap<String, Progress>,
    /// Steps in the order of their completion.
    pub(crate) completed: Vec<String>,
    pub(crate) signals: Vec<Signalled>,
    /// Ids of answers: each counts once.
    pub(crate) answers: BTreeSet<String>,
    /// Asked for and not begun.
    pub(crate) turn_back: Option<Cause>,
    /// Why it is compensating, or has.
    pub(crate) cause: Option<Cause>,
    pub(crate) outcome: Option<Outcome>,
    /// Why an operator is needed.
    pub(crate) intervention: Option<String>,
    pub(crate) parked: Option<String>,
    /// Counts facts.
    order: u64,
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
            undos: BTreeMap::new(),
            completed: Vec::new(),
            signals: Vec::new(),
            answers: BTreeSet::new(),
            turn_back: None,
            cause: None,
            outcome: None,
            intervention: None,
            parked: None,
            order: 0,
        }
    }

    /// Takes in one event of the stream. `at`: when it was recorded, in microseconds since 1970.
    pub(crate) fn apply(&mut self, version: i64, at: i64, facts: &[Fact]) {
        self.version = version;
        for fact in facts {
            self.take(at, fact);
        }
    }

    /// The progress of a step or of its undo.
    pub(crate) fn progress(&self, step: &str, undo: bool) -> Option<&Progress> {
        if undo { &self.undos } else { &self.steps }.get(step)
    }

    fn progress_mut(&mut self, step: &str, undo: bool) -> &mut Progress {
        let all = if undo {
            &mut self.undos
        } else {
            &mut self.steps
        };
        if !all.contains_key(step) {
            all.insert(step.to_owned(), Progress::default());
        }
        all.get_mut(step).expect("it was inserted above")
    }

    fn end_step(&mut self, step: &str, undo: bool, status: StepStatus, error: Option<&str>) {
        let order = self.order;
        let progress = self.progress_mut(step, undo);
        if !progress.is_active() {
            progress.order = order;
        }
        progress.status = status;
        progress.skip = false;
        progress.retry = false;
        progress.error = error.map(str::to_owned);
    }

    pub(crate) fn take(&mut self, at: i64, fact: &Fact) {
        self.order += 1;
        match fact {
            Fact::Started {
                state,
                trigger,
                parent,
            } => {
                self.state = state.clone();
                self.trigger.clone_from(trigger);
                self.parent.clone_from(parent);
            }
            Fact::Activated {
                step,
                undo,
                activation,
                requests,
                timeout_ms,
            } => {
                let asked = requests.iter().map(|request| Asked {
                    request: request.clone(),
                    answer: None,
                    attempts: 0,
                    retry_at: i64::MIN,
                });
                let activation = Activation {
                    number: *activation,
                    at,
                    timeout_ms: *timeout_ms,
                    requests: asked.collect(),
                    order: self.order,
                };
                self.progress_mut(step, *undo).activate(activation);
            }
            Fact::Answered {
                step,
                undo,
                activation,
                request,
                ok,
                kind,
                data,
                error,
                id,
            } => {
                if !self.is_new(id.as_ref()) {
                    return;
                }
                let answer = Answer {
                    activation: *activation,
                    request: *request,
                    ok: *ok,
                    kind: kind.clone(),
                    data: data.clone(),
                    error: error.clone(),
                    order: self.order,
                };
                self.progress_mut(step, *undo).answer(answer);
            }
            Fact::AttemptFailed {
                step,
                undo,
                activation: _,
                request,
                attempt,
                error,
                retry_ms,
            } => {
                let progress = self.progress_mut(step, *undo);
                progress.error = Some(error.clone());
                let asked = progress.activation.as_mut().map(|a| &mut a.requests);
                if let Some(asked) = asked.and_then(|asked| asked.get_mut(*request as usize)) {
                    asked.attempts = *attempt;
                    let wait = i64::try_from(*retry_ms).unwrap_or(i64::MAX);
                    asked.retry_at = at.saturating_add(wait.saturating_mul(1000));
                }
            }
            Fact::Completed {
                step,
                undo,
                output,
                id,
            } => {
                self.is_new(id.as_ref());
                self.end_step(step, *undo, StepStatus::Completed, None);
                self.progress_mut(step, *undo).output = Some(output.clone());
                if *undo {
                    self.look_for_help_needed();
                } else {
                    self.completed.push(step.clone());
                }
            }
            Fact::Failed {
                step,
                undo,
                error,
                id,
            } => {
                self.is_new(id.as_ref());
                self.end_step(step, *undo, StepStatus::Failed, Some(error));
            }
            Fact::TimedOut { step, undo } => {
                self.end_step(step, *undo, StepStatus::TimedOut, Some("timed out"));
            }
            Fact::Skipped { step, undo, why } => {
                self.end_step(step, *undo, StepStatus::Skipped, Some(why));
                self.look_for_help_needed();
            }
            Fact::Abandoned { step } => self.end_step(step, false, StepStatus::Abandoned, None),
            Fact::CompensationStarted { cause } => {
                self.cause = Some(cause.clone());
                self.turn_back = None;
                self.outcome = None;
            }
            Fact::Ended { outcome, error: _ } => self.outcome = Some(*outcome),
            Fact::InterventionNeeded { error } => self.intervention = Some(error.clone()),
            Fact::Signalled {
                signal,
                data,
                id: _,
            } => self.signals.push(Signalled {
                signal: signal.clone(),
                data: data.clone(),
                order: self.order,
            }),
            Fact::CancelRequested { reason, by: _ } => {
                let reason = reason.clone();
                self.turn_back.get_or_insert(Cause::Cancelled { reason });
            }
            Fact::CompensationRequested { reason, by: _ } => {
                let forced = Cause::Forced {
                    reason: reason.clone(),
                };
                // What was asked of one that has ended otherwise has come to nothing.
                if self.outcome.is_some() {
                    self.turn_back = Some(forced);
                } else {
                    self.turn_back.get_or_insert(forced);
                }
            }
            Fact::RetryRequested { step, by: _ } => self.retry(step.as_deref()),
            Fact::SkipRequested { step, by: _ } => self.skip(step),
            Fact::Parked { reason, by: _ } => self.parked = Some(reason.clone()),
            Fact::Resumed { by: _ } => self.parked = None,
            Fact::Migrated { .. } => {}
        }
    }

    /// Remembers an answer's id; false when it was known. An answer without one is always new.
    fn is_new(&mut self, id: Option<&String>) -> bool {
        id.is_none_or(|id| self.answers.insert(id.clone()))
    }

    /// Nobody needs an operator any more once no undo stands failed.
    fn look_for_help_needed(&mut self) {
        if !self.undos.values().any(Progress::is_given_up) {
            self.intervention = None;
        }
    }

    fn retry(&mut self, wanted: Option<&str>) {
        self.intervention = None;
        for (step, progress) in self.steps.iter_mut().chain(&mut self.undos) {
            if wanted.is_some_and(|wanted| wanted != step) {
                continue;
            }
            progress.retry = progress.is_given_up();
            if progress.is_active()
                && let Some(activation) = &mut progress.activation
            {
                for asked in &mut activation.requests {
                    asked.retry_at = i64::MIN;
                }
            }
        }
    }

    /// Its undo once the instance has turned back, the step itself before.
    fn skip(&mut self, step: &str) {
        let undo = self.cause.is_some() || self.outcome.is_some();
        self.intervention = None;
        self.progress_mut(step, undo).skip = true;
    }
}
