//! Signals, and answers from outside that could be for two steps.

use super::TopologyError;
use super::graph::Graph;
use super::requests::requests_to_outside;
use crate::builder::{Draft, SignalDraft, SignalDraftAction};
use crate::response::Answers;
use crate::step::draft::{Emits, StepDraft};

pub(super) fn check(draft: &Draft, graph: &Graph, errors: &mut Vec<TopologyError>) {
    for (n, signal) in draft.signals.iter().enumerate() {
        destination(draft, signal, errors);
        let earlier = draft.signals[..n].iter().find(|s| s.name == signal.name);
        if let Some(earlier) = earlier {
            errors.push(twice(earlier, signal));
        }
    }
    for (n, second) in draft.steps.iter().enumerate() {
        for (m, first) in draft.steps[..n].iter().enumerate() {
            if let Some(answer) = in_common(draft, first, second)
                && graph.can_be_active_together(m, n)
            {
                errors.push(TopologyError::AmbiguousAwait {
                    first: first.name.clone(),
                    second: second.name.clone(),
                    answer: answer.to_owned(),
                });
            }
        }
    }
}

fn destination(draft: &Draft, signal: &SignalDraft, errors: &mut Vec<TopologyError>) {
    let SignalDraftAction::RoutesTo(step) = &signal.does else {
        return;
    };
    let (signal, step) = (signal.name.clone(), step.clone());
    let Some(target) = draft.steps.iter().find(|known| known.name == step) else {
        errors.push(TopologyError::UnknownSignalStep { signal, step });
        return;
    };
    if target.action.emits == Emits::Nothing {
        errors.push(TopologyError::SignalToValue { signal, step });
    } else if let Some(answers) = &target.action.answers
        && !answers.include(&signal)
    {
        errors.push(TopologyError::SignalMismatch { signal, step });
    }
}

fn twice(earlier: &SignalDraft, later: &SignalDraft) -> TopologyError {
    match (&earlier.does, &later.does) {
        (SignalDraftAction::RoutesTo(first), SignalDraftAction::RoutesTo(second))
            if first != second =>
        {
            TopologyError::AmbiguousAwait {
                first: first.clone(),
                second: second.clone(),
                answer: later.name.clone(),
            }
        }
        _ => TopologyError::DuplicateSignal {
            signal: later.name.clone(),
        },
    }
}

/// The type of an answer from outside that both steps wait for.
fn in_common(draft: &Draft, first: &StepDraft, second: &StepDraft) -> Option<&'static str> {
    let outside = |step: &StepDraft| {
        let effects = draft.effects.len() + step.action.effects.len();
        step.action.emits == Emits::Anything && effects == 0
            || !requests_to_outside(draft, &step.action).is_empty()
    };
    let (Some(Answers::Events(one)), Some(other)) = (&first.action.answers, &second.action.answers)
    else {
        return None;
    };
    let Answers::Events(_) = other else {
        return None;
    };
    if !outside(first) || !outside(second) {
        return None;
    }
    let mut types = one.iter().map(|kind| kind.event_type);
    types.find(|kind| other.include(kind))
}
