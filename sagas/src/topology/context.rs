//! [`Context`]: what extractors read when a step, a gate or an undo decides.

use std::any::TypeId;
use std::collections::BTreeSet;

use serde_json::Value;

use super::{Deps, StepNo, Topology};
use crate::history::Cause;

/// A look at an instance from one of its steps.
pub(crate) struct Context<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) state: &'a Value,
    pub(crate) trigger: Option<&'a Value>,
    /// By step; None unless the step completed (or, for an undo, has some good answers).
    pub(crate) outputs: Vec<Option<&'a Value>>,
    /// Why the instance turned back; in an undo only.
    pub(crate) cause: Option<&'a Cause>,
    /// Whose decide or undo this is.
    pub(crate) step: StepNo,
}

impl Context<'_> {
    /// The output of the given type: the step's own (in an undo) before that of the steps that come before it. Of those
    /// (they are alternatives then) the one declared last.
    pub(crate) fn output(&self, wanted: TypeId) -> Option<&Value> {
        let of = |step: StepNo| {
            (self.topology.steps[step].output_type == wanted)
                .then_some(self.outputs[step])
                .flatten()
        };
        of(self.step).or_else(|| self.before().into_iter().rev().find_map(of))
    }

    fn before(&self) -> BTreeSet<StepNo> {
        let mut found = BTreeSet::new();
        let mut ways = vec![self.step];
        while let Some(step) = ways.pop() {
            let step = &self.topology.steps[step];
            let parents = step.after.iter().chain(&step.after_any_of);
            ways.extend(parents.copied().filter(|parent| found.insert(*parent)));
        }
        found
    }

    pub(crate) fn deps(&self) -> &Deps {
        &self.topology.deps
    }
}
