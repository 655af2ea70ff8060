//! [`drive`]: rounds of small decisions, each recorded as a fact and applied at once, until nothing more can be decided.

use std::time::Duration;

use serde_json::Value;

use super::{Drive, Input, Message, Micros, PendingEffect, request_key};
use crate::history::{Cause, Fact, Instance, Outcome, StepStatus};
use crate::topology::{Action, Fault, SignalAction, Step, StepNo, Terminal, Topology};

/// A graph of n steps needs a few rounds for each; whoever needs more goes round in circles.
const ROUNDS_A_STEP: usize = 20;

/// A drive under way. `instance` has every fact applied, so that a decision sees those before it, as a replay will.
pub(super) struct Run<'a> {
    pub(super) topology: &'a Topology,
    pub(super) instance: Instance,
    pub(super) now: Micros,
    pub(super) facts: Vec<Fact>,
    pub(super) outbox: Vec<Message>,
    pub(super) withdraw: Vec<String>,
    pub(super) settled: Vec<String>,
}

/// A step or its undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) step: StepNo,
    pub(super) undo: bool,
}

/// Decides all that can be decided now. What was decided before a fault stands: it comes back without the fault, and due at
/// once, so that no result is lost and the next drive meets the fault alone.
///
/// # Errors
/// [`Fault`] when a decide, a gate or a stored value is broken, and nothing else was decided.
pub(crate) fn drive(
    topology: &Topology,
    instance: &Instance,
    now: Micros,
    inputs: &[Input],
) -> Result<Drive, Fault> {
    let mut run = Run {
        topology,
        instance: instance.clone(),
        now,
        facts: Vec::new(),
        outbox: Vec::new(),
        withdraw: Vec::new(),
        settled: Vec::new(),
    };
    let fault = run.all(inputs).err();
    if let Some(fault) = &fault
        && run.facts.is_empty()
    {
        return Err(fault.clone());
    }
    let mut drive = run.finish()?;
    if fault.is_some() {
        drive.due = Some(Duration::ZERO);
    }
    Ok(drive)
}

impl<'a> Run<'a> {
    fn all(&mut self, inputs: &[Input]) -> Result<(), Fault> {
        let mut fault = None;
        for input in inputs {
            // One that is broken keeps none of the others from being taken in.
            if let Err(broken) = self.input(input) {
                fault.get_or_insert(broken);
            }
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        let mut rounds = (self.topology.steps.len() + 1) * ROUNDS_A_STEP;
        while self.instance.parked.is_none() && self.round()? {
            rounds -= 1;
            if rounds == 0 {
                let name = self.topology.name;
                return Err(Fault(format!("saga {name} goes round in circles")));
            }
        }
        Ok(())
    }

    /// True when something was decided.
    fn round(&mut self) -> Result<bool, Fault> {
        let before = self.facts.len();
        for step in 0..self.topology.steps.len() {
            for undo in [false, true] {
                self.settle(Part { step, undo })?;
            }
        }
        if self.instance.outcome.is_some() && !self.is_forced_back() {
            self.undo_late()?;
        } else {
            self.turn_back();
            if self.instance.cause.is_some() {
                self.compensate()?;
            } else {
                self.advance()?;
            }
        }
        Ok(self.facts.len() > before)
    }

    pub(super) fn record(&mut self, fact: Fact) {
        self.instance.take(self.now, &fact);
        self.facts.push(fact);
    }

    /// As the topology has it: what it says can be used while the instance changes.
    pub(super) fn step(&self, step: StepNo) -> &'a Step {
        &self.topology.steps[step]
    }

    pub(super) fn name(&self, step: StepNo) -> String {
        self.step(step).name.clone()
    }

    pub(super) fn action(&self, part: Part) -> Option<&'a Action> {
        let step = self.step(part.step);
        if part.undo {
            step.undo.as_ref().map(|undo| &undo.action)
        } else {
            Some(&step.action)
        }
    }

    pub(super) fn status(&self, part: Part) -> StepStatus {
        self.instance
            .progress(&self.step(part.step).name, part.undo)
            .map_or(StepStatus::Pending, |progress| progress.status)
    }

    pub(super) fn forward(&self, step: StepNo) -> StepStatus {
        self.status(Part { step, undo: false })
    }

    pub(super) fn key(&self, part: Part, activation: u32, request: usize) -> String {
        let step = &self.step(part.step).name;
        let request = u32::try_from(request).unwrap_or(u32::MAX);
        let Instance { saga, instance, .. } = &self.instance;
        request_key(saga, instance, step, part.undo, activation, request)
    }

    /// An operator may have a completed instance undone; one that has turned back already ends where it ended.
    fn is_forced_back(&self) -> bool {
        self.instance.outcome == Some(Outcome::Completed)
            && matches!(self.instance.turn_back, Some(Cause::Forced { .. }))
    }

    /// Why the instance turns back, if it has to: a step that gave up, a terminal failure, a signal, somebody's wish.
    fn turn_back(&mut self) {
        if self.instance.cause.is_some() {
            return;
        }
        let causes = (0..self.topology.steps.len()).filter_map(|step| {
            let name = || self.name(step);
            match self.forward(step) {
                StepStatus::Failed => Some(Cause::StepFailed {
                    error: self.error_of(&self.step(step).name),
                    step: name(),
                }),
                StepStatus::TimedOut => Some(Cause::TimedOut { step: name() }),
                StepStatus::Completed if self.step(step).terminal == Some(Terminal::Failure) => {
                    Some(Cause::TerminalFailure { step: name() })
                }
                _ => None,
            }
        });
        // Once the goal is reached a straggler's failure changes nothing.
        let failed = causes
            .into_iter()
            .next()
            .filter(|_| !self.goal_is_reached());
        let signalled = || {
            let triggers = |name: &str| {
                let mut signals = self.topology.signals.iter();
                signals.any(|s| s.name == name && s.does == SignalAction::TriggersCompensation)
            };
            let mut signals = self.instance.signals.iter();
            signals
                .find(|s| triggers(&s.signal))
                .map(|s| Cause::Signal {
                    signal: s.signal.clone(),
                })
        };
        let cause = failed
            .or_else(|| self.instance.turn_back.clone())
            .or_else(signalled);
        if let Some(cause) = cause {
            self.record(Fact::CompensationStarted { cause });
        }
    }

    pub(super) fn error_of(&self, step: &str) -> String {
        let progress = self.instance.steps.get(step);
        progress
            .and_then(|progress| progress.error.clone())
            .unwrap_or_default()
    }

    /// Gives up the steps that wait for somebody outside. Effects that run in this process are left to settle: what they
    /// did is known soon, and can be undone.
    pub(super) fn abandon_waiting(&mut self) {
        for step in 0..self.topology.steps.len() {
            let part = Part { step, undo: false };
            let waits_outside = self.open_requests(part).any(|(_, outbox)| outbox);
            if self.forward(step) == StepStatus::Active && waits_outside {
                self.close(part, false);
                self.record(Fact::Abandoned {
                    step: self.name(step),
                });
            }
        }
    }

    /// The requests of an active part that nobody has answered, and whether they went to the outbox.
    pub(super) fn open_requests(&self, part: Part) -> impl Iterator<Item = (usize, bool)> + use<> {
        let progress = self
            .instance
            .progress(&self.step(part.step).name, part.undo);
        let activation = progress
            .filter(|progress| progress.is_active())
            .and_then(|progress| progress.activation.as_ref());
        let asked = activation.map_or(&[][..], |activation| &activation.requests);
        let open: Vec<_> = asked
            .iter()
            .enumerate()
            .filter(|(_, asked)| asked.answer.is_none())
            .map(|(n, asked)| (n, asked.request.outbox))
            .collect();
        open.into_iter()
    }

    /// Takes the outbox requests of a part that is about to end out of circulation: those of this very drive are never
    /// published, older ones are settled or, unless answered, withdrawn.
    pub(super) fn close(&mut self, part: Part, answered: bool) {
        let progress = self
            .instance
            .progress(&self.step(part.step).name, part.undo);
        let Some(activation) = progress.and_then(|progress| progress.activation.as_ref()) else {
            return;
        };
        let mut keys = Vec::new();
        for (n, asked) in activation.requests.iter().enumerate() {
            if asked.request.outbox {
                let answered = answered || asked.answer.is_some();
                keys.push((self.key(part, activation.number, n), answered));
            }
        }
        for (key, answered) in keys {
            let published = self.outbox.len();
            self.outbox.retain(|message| message.key != key);
            if self.outbox.len() < published {
                continue;
            }
            if answered {
                self.settled.push(key);
            } else {
                self.withdraw.push(key);
            }
        }
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        let error = self.instance.cause.as_ref().map(ToString::to_string);
        self.record(Fact::Ended {
            outcome,
            error: error.clone(),
        });
        let Some(parent) = self.instance.parent.clone() else {
            return;
        };
        let outputs: serde_json::Map<String, Value> = self
            .instance
            .steps
            .iter()
            .filter_map(|(name, progress)| Some((name.clone(), progress.output.clone()?)))
            .collect();
        let Instance { saga, instance, .. } = &self.instance;
        self.outbox.push(Message {
            key: format!("{saga}/{instance}/$ended"),
            step: "$ended".to_owned(),
            undo: false,
            activation: 1,
            request: 0,
            kind: "$answer".to_owned(),
            data: serde_json::json!({
                "saga": parent.saga,
                "instance": parent.instance,
                "step": parent.step,
                "activation": parent.activation,
                "request": parent.request,
                "type": "$saga_ended",
                "data": {"outcome": outcome, "error": error, "outputs": outputs},
            }),
        });
    }

    /// The effects that a part waits for in this process, those that run already included.
    pub(super) fn effects_of(&self, part: Part) -> Vec<PendingEffect> {
        let step = &self.step(part.step).name;
        let Some(activation) = self
            .instance
            .progress(step, part.undo)
            .and_then(|progress| progress.activation.as_ref())
        else {
            return Vec::new();
        };
        let due = |n: usize| activation.requests[n].retry_at <= self.now;
        self.open_requests(part)
            .filter(|(n, outbox)| !outbox && due(*n))
            .map(|(n, _)| {
                let request = &activation.requests[n].request;
                PendingEffect {
                    step: part.step,
                    undo: part.undo,
                    activation: activation.number,
                    request: u32::try_from(n).unwrap_or(u32::MAX),
                    key: self.key(part, activation.number, n),
                    kind: request.kind.clone(),
                    data: request.data.clone(),
                }
            })
            .collect()
    }
}
