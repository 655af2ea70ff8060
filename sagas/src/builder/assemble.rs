//! From a [`Draft`] to a [`Topology`]: names become numbers, effects are found by type.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mire_client::EventKind;

use super::signal::SignalDraftAction;
use super::{Draft, StartOn};
use crate::handler::EffectDraft;
use crate::step::draft::{ActionDraft, Emits};
use crate::topology::{Action, Deps, EffectFn, Signal, SignalAction, Step, StepNo, Topology, Undo};

impl Draft {
    /// For a draft without mistakes; what is wrong otherwise is left out.
    pub(crate) fn assemble(self) -> (Topology, Vec<StartOn>) {
        let names: Vec<String> = self.steps.iter().map(|step| step.name.clone()).collect();
        let number = |name: &String| names.iter().position(|known| known == name);
        let numbers = |wanted: &[String]| -> Vec<StepNo> {
            let mut found = Vec::new();
            for number in wanted.iter().filter_map(number) {
                if !found.contains(&number) {
                    found.push(number);
                }
            }
            found
        };
        let shared = &self.effects;
        let steps = self.steps.into_iter().map(|step| Step {
            after: numbers(&step.after),
            after_any_of: numbers(&step.after_any_of),
            name: step.name,
            gates: step.gates.into_iter().map(|gate| gate.gate).collect(),
            terminal: step.terminals.last().copied(),
            action: action(step.action, shared, self.default_timeout),
            undo: step.undo.map(|undo| Undo {
                even_if_active: undo.even_if_active,
                action: action(undo.action, shared, None),
            }),
            output_type: step.output.id,
            output_name: step.output.name,
        });
        let steps = steps.collect();
        let signals = self.signals.into_iter().filter_map(|signal| {
            let does = match &signal.does {
                SignalDraftAction::TriggersCompensation => SignalAction::TriggersCompensation,
                SignalDraftAction::RoutesTo(step) => SignalAction::RoutesTo(number(step)?),
            };
            Some(Signal {
                name: signal.name,
                does,
            })
        });
        let topology = Topology {
            name: self.name,
            version: self.version,
            steps,
            signals: signals.collect(),
            deps: Deps(Arc::new(self.deps)),
        };
        (topology, self.starts)
    }
}

fn action(draft: ActionDraft, shared: &[EffectDraft], timeout: Option<Duration>) -> Action {
    let mut effects = HashMap::new();
    for effect in shared.iter().chain(&draft.effects) {
        for kind in effect.kinds(&draft.emits) {
            if draft.emits.may_be(kind) {
                effects.insert(kind.to_owned(), EffectFn::clone(&effect.call));
            }
        }
    }
    let waits = draft.emits != Emits::Nothing;
    Action {
        decide: draft.decide,
        effects,
        respond: draft.respond,
        many: draft.many,
        timeout: draft.timeout.or(timeout).filter(|_| waits),
        retry: draft.retry,
    }
}

impl EffectDraft {
    /// The types, of today and earlier, of the requests that it fulfils for whoever emits these.
    pub(crate) fn kinds(&self, emits: &Emits) -> Vec<&'static str> {
        let kinds: Vec<_> = match (self.needs.requests.as_slice(), emits) {
            ([], Emits::These(kinds)) => kinds.clone(),
            ([], _) => Vec::new(),
            (requests, _) => requests.iter().flat_map(|(_, kinds)| *kinds).collect(),
        };
        let names = |kind: &'static EventKind| {
            std::iter::once(kind.event_type).chain(kind.aliases.iter().copied())
        };
        kinds.into_iter().flat_map(names).collect()
    }
}
