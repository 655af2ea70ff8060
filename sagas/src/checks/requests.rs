//! Requests and who sees to them.

use std::collections::BTreeSet;

use super::TopologyError;
use super::who::Who;
use crate::builder::Draft;
use crate::handler::EffectDraft;
use crate::response::{Answers, is_called};
use crate::step::draft::{ActionDraft, Emits};

pub(super) fn check(draft: &Draft, errors: &mut Vec<TopologyError>) {
    let actions: Vec<_> = actions(draft).collect();
    clear(Who::Saga, &draft.effects, &Emits::Nothing, errors);
    for effect in &draft.effects {
        let used = actions.iter().any(|(_, action)| is_used(effect, action));
        if !used && effect.needs.requests.len() == 1 {
            errors.push(TopologyError::UnusedEffect {
                who: Who::Saga.to_string(),
                effect: effect.short_name(),
            });
        }
    }
    for (who, action) in actions {
        clear(who, &action.effects, &action.emits, errors);
        for effect in &action.effects {
            if !is_used(effect, action) && !effect.kinds(&action.emits).is_empty() {
                errors.push(TopologyError::UnusedEffect {
                    who: who.to_string(),
                    effect: effect.short_name(),
                });
            }
        }
        handled(draft, who, action, errors);
        answers(draft, who, action, errors);
    }
}

/// All decides of steps and undos.
pub(super) fn actions(draft: &Draft) -> impl Iterator<Item = (Who<'_>, &ActionDraft)> {
    draft.steps.iter().flat_map(|step| {
        let undo = step.undo.as_ref();
        let undo = undo.map(|undo| (Who::Undo(&step.name), &undo.action));
        std::iter::once((Who::Step(step.name.as_str()), &step.action)).chain(undo)
    })
}

fn is_used(effect: &EffectDraft, action: &ActionDraft) -> bool {
    let mut kinds = effect.kinds(&action.emits).into_iter();
    kinds.any(|kind| action.emits.may_be(kind))
}

/// Each effect is for one type of request, and no type has two.
fn clear(who: Who<'_>, effects: &[EffectDraft], emits: &Emits, errors: &mut Vec<TopologyError>) {
    let mut seen = BTreeSet::new();
    for effect in effects {
        let requests = effect.needs.requests.len();
        if requests > 1 || effect.kinds(emits).is_empty() {
            errors.push(TopologyError::UnclearEffect {
                who: who.to_string(),
                effect: effect.short_name(),
                requests,
            });
            continue;
        }
        for request in effect.kinds(emits) {
            if !seen.insert(request) {
                errors.push(TopologyError::DuplicateEffect {
                    who: who.to_string(),
                    request: request.to_owned(),
                });
            }
        }
    }
}

fn handled(draft: &Draft, who: Who<'_>, action: &ActionDraft, errors: &mut Vec<TopologyError>) {
    for request in requests_to_outside(draft, action) {
        let allowed = draft.unhandled.iter().any(|kind| is_called(kind, request));
        if !allowed {
            errors.push(TopologyError::UnhandledRequest {
                who: who.to_string(),
                request: request.to_owned(),
            });
        }
    }
}

/// The types of requests that an action is known to make, and that no effect fulfils.
pub(super) fn requests_to_outside(draft: &Draft, action: &ActionDraft) -> Vec<&'static str> {
    let Emits::These(kinds) = &action.emits else {
        return Vec::new();
    };
    let effects = || draft.effects.iter().chain(&action.effects);
    let has_effect = |kind: &str| effects().any(|e| e.kinds(&action.emits).contains(&kind));
    let types = kinds.iter().map(|kind| kind.event_type);
    types.filter(|kind| !has_effect(kind)).collect()
}

/// What effects answer can be read by `on_response`.
fn answers(draft: &Draft, who: Who<'_>, action: &ActionDraft, errors: &mut Vec<TopologyError>) {
    let Some(wanted @ Answers::Events(_)) = &action.answers else {
        return;
    };
    for effect in draft.effects.iter().chain(&action.effects) {
        if action.emits == Emits::Anything || !is_used(effect, action) {
            continue;
        }
        let own = |kind: &str| {
            action
                .effects
                .iter()
                .any(|e| e.kinds(&action.emits).contains(&kind))
        };
        let shared = !action.effects.iter().any(|e| std::ptr::eq(e, effect));
        if shared && effect.kinds(&action.emits).into_iter().all(own) {
            continue; // never called here
        }
        let unread = match &effect.answers {
            Answers::Events(kinds) => kinds
                .iter()
                .map(|kind| kind.event_type)
                .find(|kind| !wanted.include(kind))
                .map(|kind| format!("{kind:?}")),
            Answers::Data(data) => Some(format!("data of type {data}")),
        };
        errors.extend(unread.map(|answer| TopologyError::ResponseMismatch {
            who: who.to_string(),
            effect: effect.short_name(),
            answer,
        }));
    }
}
