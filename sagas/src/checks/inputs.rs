//! What functions ask for: outputs that come before on every way, dependencies, triggers.

use super::TopologyError;
use super::graph::Graph;
use super::who::Who;
use crate::builder::Draft;
use crate::extract::{Requirement, Type};
use crate::handler::EffectDraft;
use crate::topology::StepNo;

pub(super) fn check(draft: &Draft, graph: &Graph, errors: &mut Vec<TopologyError>) {
    let check = Inputs { draft, graph };
    for (number, step) in draft.steps.iter().enumerate() {
        let who = Who::Step(&step.name);
        check.all(who, number, &step.action.requires, errors);
        check.effects(who, &step.action.effects, errors);
        for gate in &step.gates {
            check.all(Who::Gate(&step.name), number, &gate.requires, errors);
        }
        if let Some(undo) = &step.undo {
            let who = Who::Undo(&step.name);
            check.effects(who, &undo.action.effects, errors);
            let of_others: Vec<_> = undo
                .action
                .requires
                .iter()
                .filter(|requirement| !check.own(who, number, requirement, errors))
                .copied()
                .collect();
            check.all(who, number, &of_others, errors);
        }
    }
    check.effects(Who::Saga, &draft.effects, errors);
}

struct Inputs<'a> {
    draft: &'a Draft,
    graph: &'a Graph,
}

impl Inputs<'_> {
    fn all(
        &self,
        who: Who<'_>,
        step: StepNo,
        requires: &[Requirement],
        errors: &mut Vec<TopologyError>,
    ) {
        for requirement in requires {
            let error = match requirement {
                Requirement::Output(output) => self.output(who, step, *output, false),
                Requirement::OptionalOutput(output) => self.output(who, step, *output, true),
                Requirement::Dep(dep) => self.dep(who, *dep),
                Requirement::Trigger(trigger) => self.trigger(who, *trigger),
            };
            push_new(errors, error);
        }
    }

    /// Whether an undo asks for the output of the very step that it undoes.
    fn own(
        &self,
        who: Who<'_>,
        step: StepNo,
        requirement: &Requirement,
        errors: &mut Vec<TopologyError>,
    ) -> bool {
        let step = &self.draft.steps[step];
        let even_if_active = step.undo.as_ref().is_some_and(|undo| undo.even_if_active);
        match requirement {
            Requirement::Output(output) if *output == step.output => {
                let error = even_if_active.then(|| TopologyError::UncertainOutput {
                    who: who.to_string(),
                    output: output.to_string(),
                    why: "it undoes even if active",
                });
                push_new(errors, error);
                true
            }
            Requirement::OptionalOutput(output) => *output == step.output,
            _ => false,
        }
    }

    fn output(
        &self,
        who: Who<'_>,
        step: StepNo,
        output: Type,
        optional: bool,
    ) -> Option<TopologyError> {
        if !self.graph.order.contains(&step) {
            return None; // what is in a cycle, or behind one, has no before
        }
        let gives = |step: StepNo| self.draft.steps[step].output == output;
        let name = |step: &StepNo| self.draft.steps[*step].name.clone();
        let before = &self.graph.before[step];
        let givers: Vec<StepNo> = before.iter().copied().filter(|s| gives(*s)).collect();
        if givers.is_empty() {
            let elsewhere = (0..self.draft.steps.len()).filter(|s| gives(*s) && *s != step);
            return Some(TopologyError::MissingOutput {
                who: who.to_string(),
                output: output.to_string(),
                givers: elsewhere.map(|s| name(&s)).collect(),
            });
        }
        if self.graph.two_are_before(step, &gives) {
            return Some(TopologyError::AmbiguousOutput {
                who: who.to_string(),
                output: output.to_string(),
                givers: givers.iter().map(name).collect(),
            });
        }
        let certain = optional || self.graph.one_is_certain(step, &gives);
        (!certain).then(|| TopologyError::UncertainOutput {
            who: who.to_string(),
            output: output.to_string(),
            why: "not every way leads through a step that gives it",
        })
    }

    fn dep(&self, who: Who<'_>, dep: Type) -> Option<TopologyError> {
        let known = self.draft.deps.contains_key(&dep.id);
        (!known).then(|| TopologyError::MissingDep {
            who: who.to_string(),
            dep: dep.to_string(),
        })
    }

    /// Unless there is no `start_on`: then whoever starts instances knows what they give.
    fn trigger(&self, who: Who<'_>, trigger: Type) -> Option<TopologyError> {
        let mut starts = self.draft.starts.iter();
        let other = starts.find(|start| start.event != trigger)?;
        Some(TopologyError::WrongTrigger {
            who: who.to_string(),
            trigger: trigger.to_string(),
            event: other.event.to_string(),
        })
    }

    fn effects(&self, who: Who<'_>, effects: &[EffectDraft], errors: &mut Vec<TopologyError>) {
        for effect in effects {
            let effect_name = effect.short_name();
            let who = Who::Effect(&effect_name, &who);
            for requirement in &effect.needs.deps {
                if let Requirement::Dep(dep) = requirement {
                    push_new(errors, self.dep(who, *dep));
                }
            }
        }
    }
}

fn push_new(errors: &mut Vec<TopologyError>, error: Option<TopologyError>) {
    if let Some(error) = error
        && !errors.contains(&error)
    {
        errors.push(error);
    }
}
