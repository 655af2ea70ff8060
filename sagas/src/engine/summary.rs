//! What a drive leaves behind: what to run, when to come back, and how the instance's row describes it.

use std::time::Duration;

use super::drive::{Part, Run};
use super::{Drive, Status};
use crate::history::{Instance, Outcome};
use crate::topology::Fault;

/// What takes longer is looked at then, and waits on: the database knows no later time.
const LONGEST: Duration = Duration::from_secs(90 * 365 * 24 * 60 * 60);

impl Run<'_> {
    pub(super) fn finish(self) -> Result<Drive, Fault> {
        let mut effects = Vec::new();
        let mut steps = Vec::new();
        let mut due = None;
        for step in 0..self.topology.steps.len() {
            for undo in [false, true] {
                let part = Part { step, undo };
                let name = &self.step(step).name;
                let Some(progress) = self.instance.progress(name, undo) else {
                    continue;
                };
                let Some(activation) = progress
                    .activation
                    .as_ref()
                    .filter(|_| progress.is_active())
                else {
                    continue;
                };
                steps.push(if undo {
                    format!("{name}~undo")
                } else {
                    name.clone()
                });
                if self.instance.parked.is_some() {
                    continue;
                }
                effects.extend(self.effects_of(part));
                let retries = activation.requests.iter();
                let retries = retries
                    .filter(|asked| asked.answer.is_none() && !asked.request.outbox)
                    .map(|asked| asked.retry_at)
                    .filter(|at| *at > self.now);
                due = retries.chain(activation.deadline()).chain(due).min();
            }
        }
        for effect in &effects {
            let action = self.action(Part {
                step: effect.step,
                undo: effect.undo,
            });
            if !action.is_some_and(|action| action.effects.contains_key(&effect.kind)) {
                return Err(Fault(format!(
                    "step {} waits for the effect of {}, which this topology does not have",
                    self.step(effect.step).name,
                    effect.kind
                )));
            }
        }
        let now = self.now;
        Ok(Drive {
            due: due.map(|at| {
                let due = u64::try_from(at.saturating_sub(now)).unwrap_or_default();
                Duration::from_micros(due).min(LONGEST)
            }),
            status: status(&self.instance, steps.is_empty()),
            error: error(&self.instance),
            facts: self.facts,
            outbox: self.outbox,
            withdraw: self.withdraw,
            settled: self.settled,
            effects,
            steps,
            instance: self.instance,
        })
    }
}

fn status(instance: &Instance, idle: bool) -> Status {
    if instance.parked.is_some() {
        return Status::Parked;
    }
    if idle && instance.intervention.is_some() {
        return Status::Intervention;
    }
    match instance.outcome {
        Some(_) if !idle => Status::Compensating,
        Some(Outcome::Completed) => Status::Completed,
        Some(Outcome::Compensated) => Status::Compensated,
        Some(Outcome::Failed) => Status::Failed,
        Some(Outcome::Cancelled) => Status::Cancelled,
        None if instance.cause.is_some() => Status::Compensating,
        None => Status::Running,
    }
}

fn error(instance: &Instance) -> Option<String> {
    let parked = instance.parked.clone().or(instance.intervention.clone());
    let attempts = instance.steps.values().chain(instance.undos.values());
    parked
        .or_else(|| instance.cause.as_ref().map(ToString::to_string))
        .or_else(|| {
            attempts
                .filter(|progress| progress.is_active())
                .find_map(|progress| progress.error.clone())
        })
}
