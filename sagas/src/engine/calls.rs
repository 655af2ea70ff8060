//! Calls into the program's own code: decides, gates and maps of answers. A panic in there is a [`Fault`] of this
//! instance and nobody else's.

use serde_json::Value;

use super::Message;
use super::answers::millis;
use super::drive::{Part, Run};
use crate::history::{Cause, Fact, RecordedRequest, StepStatus};
use crate::panics::guarded;
use crate::topology::{Context, Decision, Fault, Request};

impl Run<'_> {
    pub(super) fn gates_are_open(&self, part: Part) -> Result<Result<(), String>, Fault> {
        let gates = &self.step(part.step).gates;
        if gates.is_empty() {
            return Ok(Ok(()));
        }
        let context = self.context(part, None, None);
        for gate in gates {
            let open = guarded(|| (gate.open)(&context))
                .map_err(|fault| self.blame(part, "gate", &fault))?;
            if !open {
                return Ok(Err(gate.label.clone()));
            }
        }
        Ok(Ok(()))
    }

    /// Lets a step or an undo decide and records what it decided. `achieved`: the step's output, if it has not completed.
    pub(super) fn decide(
        &mut self,
        part: Part,
        achieved: Option<&Value>,
        cause: Option<&Cause>,
    ) -> Result<(), Fault> {
        let Some(action) = self.action(part) else {
            return Ok(());
        };
        let context = self.context(part, achieved, cause);
        let decision = guarded(|| (action.decide)(&context))
            .map_err(|fault| self.blame(part, "decide", &fault))?;
        let (requests, timeout) = match decision {
            Decision::Value(value) => {
                self.complete(part, value, None);
                return Ok(());
            }
            Decision::Emit { requests, timeout } => (requests, timeout.or(action.timeout)),
        };
        if requests.is_empty() {
            let output = self.join(part, Vec::new());
            self.complete(part, output, None);
            return Ok(());
        }
        if requests.len() > 1 && !action.many {
            let fault = Fault(format!(
                "{} requests where one is answered; map each answer instead",
                requests.len()
            ));
            return Err(self.blame(part, "decide", &fault));
        }
        let recorded = requests.into_iter().map(|Request { kind, data }| {
            let outbox = !action.effects.contains_key(&kind);
            RecordedRequest { kind, data, outbox }
        });
        let recorded: Vec<_> = recorded.collect();
        self.activate(part, recorded, timeout.map(millis));
        Ok(())
    }

    fn activate(&mut self, part: Part, requests: Vec<RecordedRequest>, timeout_ms: Option<u64>) {
        let name = self.name(part.step);
        let activation = self
            .instance
            .progress(&name, part.undo)
            .map_or(1, crate::history::Progress::next_activation);
        for (n, request) in requests.iter().enumerate() {
            if request.outbox {
                self.outbox.push(Message {
                    key: self.key(part, activation, n),
                    step: name.clone(),
                    undo: part.undo,
                    activation,
                    request: u32::try_from(n).unwrap_or(u32::MAX),
                    kind: request.kind.clone(),
                    data: request.data.clone(),
                });
            }
        }
        self.record(Fact::Activated {
            step: name,
            undo: part.undo,
            activation,
            requests,
            timeout_ms,
        });
    }

    fn context<'c>(
        &'c self,
        part: Part,
        achieved: Option<&'c Value>,
        cause: Option<&'c Cause>,
    ) -> Context<'c> {
        let steps = self.topology.steps.iter().enumerate();
        let outputs = steps.map(|(number, step)| {
            let progress = self.instance.steps.get(&step.name);
            let completed = progress.filter(|progress| progress.status == StepStatus::Completed);
            completed
                .and_then(|progress| progress.output.as_ref())
                .or(achieved.filter(|_| number == part.step))
        });
        Context {
            outputs: outputs.collect(),
            topology: self.topology,
            state: &self.instance.state,
            trigger: self.instance.trigger.as_deref(),
            cause,
            step: part.step,
        }
    }

    fn blame(&self, part: Part, what: &str, fault: &Fault) -> Fault {
        let undo = if part.undo { "the undo of " } else { "" };
        Fault(format!(
            "{what} of {undo}step {}: {fault}",
            self.step(part.step).name
        ))
    }
}
