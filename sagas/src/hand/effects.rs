//! Effects: each in a task of its own, which outlives the hand that began it. A result that nobody waits for any more is
//! delivered like an answer from outside.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::{Instrument, debug_span};

use super::Desk;
use crate::effect::{EffectError, brief};
use crate::engine::{Input, PendingEffect};
use crate::measure;
use crate::panics::panic_text;
use crate::storage::{AnswerItem, DeliverItem, encode};
use crate::topology::{EffectCall, Request, Response, Topology};

/// An effect under way, or waiting for its turn.
pub(super) struct Running {
    task: AbortHandle,
    begun: Arc<AtomicBool>,
}

impl Running {
    /// Keeps one that has not begun from ever beginning; false when it has begun.
    pub(super) fn call_off(&self) -> bool {
        let begun = self.begun.swap(true, Ordering::AcqRel);
        if !begun {
            self.task.abort();
        }
        !begun
    }

    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

/// An effect that has come to its end.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) effect: PendingEffect,
    pub(super) result: Result<Response, EffectError>,
}

impl Done {
    pub(super) fn into_input(self) -> Input {
        Input::Effect {
            step: self.effect.step,
            undo: self.effect.undo,
            activation: self.effect.activation,
            request: self.effect.request,
            result: self.result,
        }
    }
}

/// An instance as far as its effects are concerned.
#[derive(Clone)]
pub(super) struct Whose {
    pub(super) desk: Arc<Desk>,
    pub(super) topology: Arc<Topology>,
    pub(super) instance: String,
}

impl Whose {
    /// Begins an effect; its end is told to `done`.
    pub(super) fn begin(&self, effect: PendingEffect, done: UnboundedSender<Done>) -> Running {
        let whose = self.clone();
        let begun = Arc::new(AtomicBool::new(false));
        let first = begun.clone();
        let span = debug_span!("effect", saga = self.topology.name, instance = %self.instance, key = %effect.key);
        let work = async move {
            // Closing is nothing that happens to this semaphore.
            let permit = whose.desk.effects.clone().acquire_owned().await;
            if first.swap(true, Ordering::AcqRel) {
                return;
            }
            let result = whose.run(&effect).await;
            drop(permit);
            if let Err(alone) = done.send(Done { effect, result }) {
                Box::pin(whose.deliver(alone.0)).await;
            }
        };
        Running {
            task: self.desk.spawn(work.instrument(span)),
            begun,
        }
    }

    async fn run(&self, effect: &PendingEffect) -> Result<Response, EffectError> {
        let step = &self.topology.steps[effect.step];
        let action = if effect.undo {
            step.undo.as_ref().map(|undo| &undo.action)
        } else {
            Some(&step.action)
        };
        let Some(run) = action.and_then(|action| action.effects.get(&effect.kind)) else {
            return Err(EffectError::permanent("this topology has no such effect"));
        };
        let call = EffectCall {
            request: Request {
                kind: effect.kind.clone(),
                data: effect.data.clone(),
            },
            key: effect.key.clone(),
            deps: self.topology.deps.clone(),
        };
        let timing = measure::EffectTiming::begin(self.topology.name);
        let limit = self.desk.effect_timeout;
        // What is dropped for its lateness may panic as well.
        let bounded = async {
            tokio::time::timeout(limit, run(call))
                .await
                .unwrap_or_else(|_| Err(late(limit)))
        };
        let result = AssertUnwindSafe(bounded)
            .catch_unwind()
            .await
            .unwrap_or_else(|panic| {
                let said = panic_text(&*panic);
                Err(EffectError::transient(format!(
                    "the effect panicked: {said}"
                )))
            });
        timing.end(result.is_ok());
        if let Err(error) = &result {
            tracing::debug!(%error, permanent = error.is_permanent(), "the effect failed");
        }
        result
    }

    /// Delivers a result that nobody waits for. A failure that may pass is forgotten: whoever holds the instance now has
    /// attempts of its own.
    pub(super) async fn deliver(&self, done: Done) {
        let Done { effect, result } = done;
        let text;
        let (suffix, answer) = match &result {
            Ok(response) => {
                let answer = AnswerItem {
                    ok: true,
                    kind: response.kind.as_deref(),
                    data: Some(&response.data),
                    ..AnswerItem::default()
                };
                ("ok", answer)
            }
            Err(error) if error.is_permanent() => {
                text = brief(error.message());
                let answer = AnswerItem {
                    error: Some(&text),
                    ..AnswerItem::default()
                };
                ("failed", answer)
            }
            Err(_) => return,
        };
        let id = format!("{}/{suffix}", effect.key);
        let item = DeliverItem {
            saga: self.topology.name,
            instance: &self.instance,
            step: &self.topology.steps[effect.step].name,
            undo: effect.undo,
            activation: Some(effect.activation),
            request: effect.request,
            answer: AnswerItem {
                id: Some(&id),
                ..answer
            },
        };
        let delivered = match encode(&item) {
            Ok(item) => self.desk.answers.call(item).await,
            Err(error) => Err(error),
        };
        match delivered {
            Ok(result) => {
                tracing::debug!(key = %effect.key, outcome = %result.outcome, "a result delivered from outside");
            }
            // The effect runs again then, with the same key.
            Err(error) => tracing::warn!(key = %effect.key, %error, "a result was not delivered"),
        }
    }
}

fn late(limit: Duration) -> EffectError {
    EffectError::transient(format!(
        "the effect did not return within {limit:?} and was dropped; it may have taken place all the same: \
         find out what it waits for, or raise effect_timeout on the worker's builder and the runner"
    ))
}
