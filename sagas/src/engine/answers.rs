//! What comes in, and what it means for the step that waits for it.

use std::time::Duration;

use serde_json::Value;

use super::Input;
use super::drive::{Part, Run};
use crate::effect::{EffectError, brief};
use crate::history::{Fact, Instance, Signalled};
use crate::panics::guarded;
use crate::topology::{Fault, Refusal, Response, SignalAction, StepNo};

impl Run<'_> {
    pub(super) fn input(&mut self, input: &Input) -> Result<(), Fault> {
        match input {
            Input::Effect {
                step,
                undo,
                activation,
                request,
                result,
            } => {
                let part = Part {
                    step: *step,
                    undo: *undo,
                };
                match result {
                    Ok(response) => {
                        let answer = Ok(response);
                        let taken = self.answer(part, Some(*activation), *request, answer, None);
                        if taken.is_err() {
                            // What cannot be understood is kept as it came: the effect is not to run again for it.
                            self.record_answer(part, Some(*activation), *request, answer, None);
                        }
                        taken
                    }
                    Err(error) => {
                        self.attempt_failed(part, *activation, *request, error);
                        Ok(())
                    }
                }
            }
            Input::Answer {
                step,
                undo,
                activation,
                request,
                answer,
                id,
            } => {
                let step = self.topology.step_no(step).ok_or_else(|| {
                    Fault(format!("saga {} has no step {step}", self.topology.name))
                })?;
                let part = Part { step, undo: *undo };
                let answer = answer.as_ref().map_err(String::as_str);
                self.answer(part, *activation, *request, answer, id.clone())?;
                // Also when its step goes on, or has been given up: nobody is to be asked for it again, and no doubt is left.
                if let Some(activation) = *activation {
                    let key = self.key(part, activation, *request as usize);
                    if !self.settled.contains(&key) {
                        self.settled.push(key);
                    }
                }
                Ok(())
            }
        }
    }

    /// An answer to the one request of an active step settles it at once; any other is recorded as it came.
    fn answer(
        &mut self,
        part: Part,
        activation: Option<u32>,
        request: u32,
        answer: Result<&Response, &str>,
        id: Option<String>,
    ) -> Result<(), Fault> {
        if id
            .as_ref()
            .is_some_and(|id| self.instance.answers.contains(id))
        {
            return Ok(());
        }
        let alone = self.action(part).is_some_and(|action| !action.many)
            && self.waits_for(part, activation, request)
            && self.open_requests(part).count() == 1
            && self.instance.parked.is_none();
        if alone {
            match answer {
                Ok(response) => match self.respond(part, response)? {
                    Ok(output) => {
                        let output = self.join(part, vec![output]);
                        self.complete(part, output, id);
                    }
                    Err(error) => self.fail(part, &error, true, id),
                },
                Err(error) => self.fail(part, error, true, id),
            }
            return Ok(());
        }
        // With an id it is recorded also when it says nothing new: so that the id is known.
        if id.is_some() || !self.progress_answered(part, activation, request, answer.is_ok()) {
            self.record_answer(part, activation, request, answer, id);
        }
        Ok(())
    }

    fn record_answer(
        &mut self,
        part: Part,
        activation: Option<u32>,
        request: u32,
        answer: Result<&Response, &str>,
        id: Option<String>,
    ) {
        let response = answer.ok();
        self.record(Fact::Answered {
            step: self.name(part.step),
            undo: part.undo,
            activation,
            request,
            ok: answer.is_ok(),
            kind: response.and_then(|response| response.kind.clone()),
            data: response.map_or(Value::Null, |response| response.data.clone()),
            error: answer.err().map(brief),
            id,
        });
    }

    fn waits_for(&self, part: Part, activation: Option<u32>, request: u32) -> bool {
        let progress = self
            .instance
            .progress(&self.step(part.step).name, part.undo)
            .filter(|progress| progress.is_active());
        let current = progress.and_then(|progress| progress.activation.as_ref());
        current.is_some_and(|current| {
            activation.is_none_or(|number| number == current.number)
                && current
                    .requests
                    .get(request as usize)
                    .is_some_and(|asked| asked.answer.is_none())
        })
    }

    /// Answered before: a retry of an effect whose first result did arrive. A success after a refusal is news.
    fn progress_answered(
        &self,
        part: Part,
        activation: Option<u32>,
        request: u32,
        ok: bool,
    ) -> bool {
        let progress = self
            .instance
            .progress(&self.step(part.step).name, part.undo);
        let current = progress.and_then(|progress| progress.activation.as_ref());
        current.is_some_and(|current| {
            activation == Some(current.number)
                && (progress.is_some_and(|p| p.output.is_some())
                    || current
                        .requests
                        .get(request as usize)
                        .and_then(|asked| asked.answer.as_ref())
                        .is_some_and(|answer| answer.ok || !ok))
        })
    }

    fn attempt_failed(&mut self, part: Part, activation: u32, request: u32, error: &EffectError) {
        if !self.waits_for(part, Some(activation), request) {
            return;
        }
        let name = self.name(part.step);
        let progress = self.instance.progress(&name, part.undo);
        let current = progress.and_then(|progress| progress.activation.as_ref());
        let attempts = current.map_or(0, |current| current.requests[request as usize].attempts);
        let attempt = attempts + 1;
        let wait = self
            .action(part)
            .and_then(|action| action.retry.wait_after(attempt, error));
        match wait {
            Some(wait) => self.record(Fact::AttemptFailed {
                step: name,
                undo: part.undo,
                activation,
                request,
                attempt,
                error: brief(error.message()),
                retry_ms: millis(wait),
            }),
            // The others of its requests settle first: what they did has to be known.
            None if self.open_requests(part).count() > 1 => self.record(Fact::Answered {
                step: name,
                undo: part.undo,
                activation: Some(activation),
                request,
                ok: false,
                kind: None,
                data: Value::Null,
                error: Some(brief(error.message())),
                id: None,
            }),
            None => self.fail(part, error.message(), false, None),
        }
    }

    /// Ends an active part whose answers are complete, that was refused, left out by an operator, or has run out of time.
    pub(super) fn settle(&mut self, part: Part) -> Result<(), Fault> {
        let progress = self
            .instance
            .progress(&self.step(part.step).name, part.undo);
        let Some(progress) = progress else {
            return Ok(());
        };
        if part.undo && progress.is_given_up() && progress.late.is_some() && self.succeeded(part)? {
            // It did happen after all.
            self.complete(part, Value::Null, None);
            return Ok(());
        }
        if progress.skip && (progress.is_active() || part.undo && progress.is_given_up()) {
            self.close(part, false);
            self.record(Fact::Skipped {
                step: self.name(part.step),
                undo: part.undo,
                why: "an operator left it out".to_owned(),
            });
            return Ok(());
        }
        if !progress.is_active() {
            return Ok(());
        }
        let Some(activation) = &progress.activation else {
            return Ok(());
        };

        let mut outputs = Vec::with_capacity(activation.requests.len());
        let mut refused = None;
        for (n, asked) in activation.requests.iter().enumerate() {
            let answer = match &asked.answer {
                Some(answer) if answer.ok => Some(Response {
                    kind: answer.kind.clone(),
                    data: answer.data.clone(),
                }),
                Some(answer) => {
                    refused = refused.or(Some(answer.error.clone().unwrap_or_default()));
                    None
                }
                None if n == 0 && !part.undo => self.routed_signal(part.step, None),
                None => None,
            };
            if let Some(answer) = answer {
                match self.respond(part, &answer)? {
                    Ok(output) => outputs.push(output),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
        }
        if let Some(error) = refused
            // What the others do in this process has to be known before anything is undone.
            && !self.open_requests(part).any(|(_, outbox)| !outbox)
        {
            self.fail(part, &error, false, None);
            return Ok(());
        }
        if outputs.len() == activation.requests.len() {
            let output = self.join(part, outputs);
            self.complete(part, output, None);
        } else if activation
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.close(part, false);
            self.record(Fact::TimedOut {
                step: self.name(part.step),
                undo: part.undo,
            });
        }
        Ok(())
    }

    /// Whether every request of a part has a good answer.
    fn succeeded(&self, part: Part) -> Result<bool, Fault> {
        let name = &self.step(part.step).name;
        let progress = self.instance.progress(name, part.undo);
        let Some(activation) = progress.and_then(|progress| progress.activation.as_ref()) else {
            return Ok(false);
        };
        for asked in &activation.requests {
            let Some(answer) = asked.answer.as_ref().filter(|answer| answer.ok) else {
                return Ok(false);
            };
            let response = Response {
                kind: answer.kind.clone(),
                data: answer.data.clone(),
            };
            if self.respond(part, &response)?.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a part whose requests gave these outputs comes to.
    pub(super) fn join(&self, part: Part, mut outputs: Vec<Value>) -> Value {
        if self.action(part).is_some_and(|action| action.many) {
            Value::Array(outputs)
        } else {
            outputs.pop().unwrap_or_default()
        }
    }

    /// The signal that answers a step, if it has come (after the given fact).
    pub(super) fn routed_signal(&self, step: StepNo, after: Option<u64>) -> Option<Response> {
        self.signal_to(step, after).map(|s| Response {
            kind: Some(s.signal.clone()),
            data: s.data.clone(),
        })
    }

    /// The first signal (after the given fact) that is routed to a step.
    pub(super) fn signal_to(&self, step: StepNo, after: Option<u64>) -> Option<&Signalled> {
        let routed = |name: &str| {
            let mut signals = self.topology.signals.iter();
            signals.any(|s| s.name == name && s.does == SignalAction::RoutesTo(step))
        };
        let Instance { signals, .. } = &self.instance;
        signals
            .iter()
            .find(|s| routed(&s.signal) && after.is_none_or(|after| s.order > after))
    }

    /// The output that an answer means, or why the step failed.
    pub(super) fn respond(
        &self,
        part: Part,
        response: &Response,
    ) -> Result<Result<Value, String>, Fault> {
        let action = self
            .action(part)
            .ok_or_else(|| Fault(format!("step {} has no undo", self.step(part.step).name)))?;
        match guarded(|| Ok((action.respond)(response)))? {
            Ok(output) => Ok(Ok(output)),
            Err(Refusal::Failed(error)) => Ok(Err(error)),
            Err(Refusal::Unreadable(error)) => Err(Fault(format!(
                "an answer to step {} cannot be read: {error}",
                self.step(part.step).name
            ))),
        }
    }

    /// `id`: of the answer that is just being handled.
    pub(super) fn complete(&mut self, part: Part, output: Value, id: Option<String>) {
        self.close(part, true);
        self.record(Fact::Completed {
            step: self.name(part.step),
            undo: part.undo,
            output,
            id,
        });
    }

    /// `answered`: by the answer that is just being handled (`id`), which is not among the recorded ones.
    fn fail(&mut self, part: Part, error: &str, answered: bool, id: Option<String>) {
        self.close(part, answered);
        self.record(Fact::Failed {
            step: self.name(part.step),
            undo: part.undo,
            error: brief(error),
            id,
        });
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
