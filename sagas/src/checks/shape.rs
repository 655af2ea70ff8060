//! The shape of the graph: beginnings, ends, references, cycles.

use std::collections::BTreeSet;

use super::TopologyError;
use super::graph::Graph;
use crate::builder::Draft;
use crate::topology::{StepNo, Terminal};

pub(super) fn check(draft: &Draft, graph: &Graph, errors: &mut Vec<TopologyError>) {
    references(draft, errors);
    for cycle in &graph.cycles {
        let steps = cycle.iter().map(|step| draft.steps[*step].name.clone());
        errors.push(TopologyError::Cycle {
            steps: steps.collect(),
        });
    }
    let begins = |step: &crate::step::draft::StepDraft| {
        step.after.is_empty() && step.after_any_of.is_empty()
    };
    if !draft.steps.iter().any(begins) {
        errors.push(TopologyError::MissingStart);
    }
    let succeeds =
        |step: &crate::step::draft::StepDraft| step.terminals.contains(&Terminal::Success);
    if !draft.steps.iter().any(succeeds) {
        errors.push(TopologyError::MissingTerminal);
    }
    for step in &draft.steps {
        if step.terminals.contains(&Terminal::Failure) && succeeds(step) {
            errors.push(TopologyError::ConflictingTerminal {
                step: step.name.clone(),
            });
        }
    }
    unreachable(draft, graph, errors);
}

fn references(draft: &Draft, errors: &mut Vec<TopologyError>) {
    for step in &draft.steps {
        let references: BTreeSet<_> = step.after.iter().chain(&step.after_any_of).collect();
        for reference in references {
            if *reference == step.name {
                errors.push(TopologyError::SelfReference {
                    step: step.name.clone(),
                });
            } else if !draft.steps.iter().any(|known| known.name == *reference) {
                errors.push(TopologyError::UnknownStep {
                    step: step.name.clone(),
                    reference: reference.clone(),
                });
            }
        }
    }
}

/// Steps behind a terminal: the instance ends there.
fn unreachable(draft: &Draft, graph: &Graph, errors: &mut Vec<TopologyError>) {
    // By step: the terminal that is in the way.
    let mut blocked: Vec<Option<StepNo>> = vec![None; draft.steps.len()];
    for &step in &graph.order {
        let by = |parent: &StepNo| {
            let ends = !draft.steps[*parent].terminals.is_empty();
            blocked[*parent].or(ends.then_some(*parent))
        };
        let required = graph.after[step].iter().find_map(by);
        let choices: Vec<_> = graph.any_of[step].iter().map(by).collect();
        let no_choice = choices.iter().all(Option::is_some);
        let chosen = choices.first().copied().flatten().filter(|_| no_choice);
        blocked[step] = required.or(chosen);
        if let Some(behind) = blocked[step] {
            let behind = draft.steps[behind].name.clone();
            let this = &draft.steps[step];
            let step = this.name.clone();
            errors.push(if this.terminals.is_empty() {
                TopologyError::UnreachableStep { step, behind }
            } else {
                TopologyError::UnreachableTerminal { step, behind }
            });
        }
    }
}
