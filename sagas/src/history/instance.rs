//! [`Instance`]: what the facts of one instance add up to. A pure fold that knows no topology: it reads histories of
//! every version, and the same facts give the same instance wherever they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::fact::{Cause, Fact, Outcome, Parent};
use super::progress::{Activation, Answer, Asked, Progress, StepStatus};

/// A signal that arrived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signalled {
    pub(crate) signal: String,
    pub(crate) data: Value,
    pub(crate) order: u64,
}

/// What the facts of one instance add up to. Every drive begins with a copy: what a drive does not touch is shared.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) saga: String,
    pub(crate) instance: String,
    /// Of the stream.
    pub(crate) version: i64,
    pub(crate) state: Arc<Value>,
    pub(crate) trigger: Option<Arc<Value>>,
    pub(crate) parent: Option<Parent>,
    pub(crate) steps: BTreeMap<String, Arc<Progress>>,
    pub(crate) undos: BTreeMap<String, Arc<Progress>>,
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
            state: Arc::default(),
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
        let all = if undo { &self.undos } else { &self.steps };
        all.get(step).map(Arc::as_ref)
    }

    fn progress_mut(&mut self, step: &str, undo: bool) -> &mut Progress {
        let all = if undo {
            &mut self.undos
        } else {
            &mut self.steps
        };
        if !all.contains_key(step) {
            all.insert(step.to_owned(), Arc::default());
        }
        Arc::make_mut(all.get_mut(step).expect("it was inserted above"))
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
                self.state = Arc::new(state.clone());
                self.trigger = trigger.clone().map(Arc::new);
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
        if !self.undos.values().any(|undo| undo.is_given_up()) {
            self.intervention = None;
        }
    }

    fn retry(&mut self, wanted: Option<&str>) {
        self.intervention = None;
        for (step, progress) in self.steps.iter_mut().chain(&mut self.undos) {
            if wanted.is_some_and(|wanted| wanted != step) {
                continue;
            }
            let progress = Arc::make_mut(progress);
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
