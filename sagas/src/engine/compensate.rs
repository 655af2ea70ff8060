//! Going back: the undos of what has been done, against the direction of the graph, independent ones together.

use serde_json::Value;

use super::drive::{Part, Run};
use crate::history::{Cause, Fact, Outcome, StepStatus};
use crate::topology::{Fault, Response, StepNo};

impl Run<'_> {
    pub(super) fn compensate(&mut self) -> Result<(), Fault> {
        let before = self.facts.len();
        self.abandon_waiting();
        let cause = self.instance.cause.clone();
        for step in self.latest_first() {
            if self.may_undo(step)? {
                let late = Cause::LateAnswer {
                    step: self.name(step),
                };
                let again = self.status(Part { step, undo: true }) == StepStatus::Completed;
                self.undo(step, if again { Some(&late) } else { cause.as_ref() })?;
            }
        }
        if self.facts.len() > before || self.is_any_active() {
            return Ok(());
        }
        let outcome = match cause {
            Some(Cause::Cancelled { .. }) => Outcome::Cancelled,
            Some(Cause::TerminalFailure { .. }) => Outcome::Failed,
            _ => Outcome::Compensated,
        };
        match self.stuck()? {
            Some(error) => self.ask_for_help(error),
            None => self.end(outcome),
        }
        Ok(())
    }

    /// After the end: a step that had been given up has succeeded after all, and nobody has undone it.
    pub(super) fn undo_late(&mut self) -> Result<(), Fault> {
        let before = self.facts.len();
        for step in self.latest_first() {
            let part = Part { step, undo: true };
            let again = self.wants_retry(part) || self.late_since_undone(step)?.is_some();
            if again && self.status(part) != StepStatus::Active {
                let cause = Cause::LateAnswer {
                    step: self.name(step),
                };
                self.undo(step, Some(&cause))?;
            }
        }
        if self.facts.len() == before && !self.is_any_active() {
            let failed = self.failed_undos().next();
            failed
                .into_iter()
                .for_each(|error| self.ask_for_help(error));
        }
        Ok(())
    }

    fn ask_for_help(&mut self, error: String) {
        if self.instance.intervention.is_none() {
            self.record(Fact::InterventionNeeded { error });
        }
    }

    fn is_any_active(&self) -> bool {
        (0..self.topology.steps.len()).any(|step| {
            [false, true]
                .into_iter()
                .any(|undo| self.status(Part { step, undo }) == StepStatus::Active)
        })
    }

    /// In reverse order of completion; what never completed before all that did.
    fn latest_first(&self) -> Vec<StepNo> {
        let completed = &self.instance.completed;
        let rank = |step: &StepNo| {
            let name = &self.topology.steps[*step].name;
            completed
                .iter()
                .rposition(|c| c == name)
                .unwrap_or(usize::MAX)
        };
        let mut steps: Vec<_> = (0..self.topology.steps.len()).rev().collect();
        steps.sort_by_key(|step| std::cmp::Reverse(rank(step)));
        steps
    }

    /// Whether a step has anything to undo that is not undone.
    fn is_to_undo(&self, step: StepNo) -> Result<bool, Fault> {
        let Some(undo) = &self.step(step).undo else {
            return Ok(false);
        };
        match self.status(Part { step, undo: true }) {
            StepStatus::Completed => return Ok(self.late_since_undone(step)?.is_some()),
            StepStatus::Skipped => return Ok(false),
            StepStatus::Pending => {}
            _ => return Ok(true),
        }
        let progress = self.instance.steps.get(&self.step(step).name);
        let Some(progress) = progress else {
            return Ok(false);
        };
        Ok(progress.status == StepStatus::Completed
            || (undo.even_if_active && progress.was_activated())
            || self.achieved(step)?.is_some())
    }

    fn may_undo(&self, step: StepNo) -> Result<bool, Fault> {
        let part = Part { step, undo: true };
        let startable = match self.status(part) {
            StepStatus::Pending | StepStatus::Completed => true,
            StepStatus::Active | StepStatus::Skipped => false,
            _ => self.wants_retry(part),
        };
        if !startable || self.forward(step) == StepStatus::Active || !self.is_to_undo(step)? {
            return Ok(false);
        }
        for later in 0..self.topology.steps.len() {
            if later != step
                && self.comes_after(later, step)
                && (self.forward(later) == StepStatus::Active || self.is_to_undo(later)?)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn wants_retry(&self, part: Part) -> bool {
        let progress = self
            .instance
            .progress(&self.step(part.step).name, part.undo);
        progress.is_some_and(|progress| progress.is_given_up() && progress.retry)
    }

    fn comes_after(&self, later: StepNo, earlier: StepNo) -> bool {
        let mut seen = vec![false; self.topology.steps.len()];
        let mut todo = vec![later];
        while let Some(step) = todo.pop().map(|step| self.step(step)) {
            for &before in step.after.iter().chain(&step.after_any_of) {
                if before == earlier {
                    return true;
                }
                if !std::mem::replace(&mut seen[before], true) {
                    todo.push(before);
                }
            }
        }
        false
    }

    fn undo(&mut self, step: StepNo, cause: Option<&Cause>) -> Result<(), Fault> {
        let achieved = self.achieved(step)?;
        self.decide(Part { step, undo: true }, achieved.as_ref(), cause)
    }

    /// What a step that has been given up is known to have done all the same.
    fn achieved(&self, step: StepNo) -> Result<Option<Value>, Fault> {
        let part = Part { step, undo: false };
        let Some(progress) = self.instance.steps.get(&self.step(step).name) else {
            return Ok(None);
        };
        if !progress.is_given_up() {
            return Ok(None);
        }
        let mut outputs = Vec::new();
        for answer in progress.good_answers() {
            let response = Response {
                kind: answer.kind.clone(),
                data: answer.data.clone(),
            };
            if let Ok(output) = self.respond(part, &response)? {
                outputs.push(output);
            }
        }
        if outputs.is_empty()
            && let Some(response) = self.routed_signal(step, Some(progress.order))
            && let Ok(output) = self.respond(part, &response)?
        {
            outputs.push(output);
        }
        Ok((!outputs.is_empty()).then(|| self.join(part, outputs)))
    }

    /// The place of a late success that no undo has taken in.
    fn late_since_undone(&self, step: StepNo) -> Result<Option<u64>, Fault> {
        let name = &self.step(step).name;
        let Some(progress) = self.instance.steps.get(name) else {
            return Ok(None);
        };
        if self.step(step).undo.is_none() || self.achieved(step)?.is_none() {
            return Ok(None);
        }
        let undone = self.instance.undos.get(name);
        let signal = self.signal_to(step, Some(progress.order));
        let late = progress.late.or(signal.map(|signal| signal.order));
        Ok(late.filter(|late| undone.is_none_or(|undone| undone.order < *late)))
    }

    fn failed_undos(&self) -> impl Iterator<Item = String> {
        let undos = self.instance.undos.iter();
        undos
            .filter(|(_, undo)| undo.is_given_up())
            .map(|(step, undo)| {
                let error = undo.error.as_deref().unwrap_or_default();
                format!("the undo of step {step} failed: {error}")
            })
    }

    /// Why the instance cannot end though nothing runs.
    fn stuck(&self) -> Result<Option<String>, Fault> {
        for step in 0..self.topology.steps.len() {
            if self.is_to_undo(step)? {
                let failed = self.failed_undos().next();
                return Ok(Some(failed.unwrap_or_else(|| {
                    format!("step {} is not undone", self.name(step))
                })));
            }
        }
        Ok(None)
    }
}
