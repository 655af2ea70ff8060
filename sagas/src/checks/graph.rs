//! [`Graph`]: what comes before what.

use std::collections::BTreeSet;

use crate::builder::Draft;
use crate::topology::StepNo;

/// The steps of a draft as far as they refer to steps that exist.
pub(super) struct Graph {
    pub(super) after: Vec<Vec<StepNo>>,
    pub(super) any_of: Vec<Vec<StepNo>>,
    /// All that may have completed before.
    pub(super) before: Vec<BTreeSet<StepNo>>,
    /// All that has completed before, whichever way was taken.
    pub(super) certain: Vec<BTreeSet<StepNo>>,
    /// A cycle each, the first step again at the end.
    pub(super) cycles: Vec<Vec<StepNo>>,
    /// Without those in a cycle, or behind one; what comes before first.
    pub(super) order: Vec<StepNo>,
}

impl Graph {
    pub(super) fn of(draft: &Draft) -> Self {
        let number = |name: &String| draft.steps.iter().position(|step| step.name == *name);
        let numbers = |names: &[String], own: StepNo| -> Vec<StepNo> {
            let found = names.iter().filter_map(number);
            found.filter(|step| *step != own).collect()
        };
        let steps = || draft.steps.iter().enumerate();
        let none = vec![BTreeSet::new(); draft.steps.len()];
        let mut graph = Self {
            after: steps().map(|(n, step)| numbers(&step.after, n)).collect(),
            any_of: steps()
                .map(|(n, step)| numbers(&step.after_any_of, n))
                .collect(),
            before: none.clone(),
            certain: none,
            cycles: Vec::new(),
            order: Vec::new(),
        };
        graph.sort();
        graph.find_cycles();
        graph.fill();
        graph
    }

    pub(super) fn parents(&self, step: StepNo) -> impl Iterator<Item = StepNo> {
        self.after[step].iter().chain(&self.any_of[step]).copied()
    }

    fn sort(&mut self) {
        let mut left: Vec<StepNo> = (0..self.after.len()).collect();
        loop {
            let free = left
                .iter()
                .position(|step| self.parents(*step).all(|p| self.order.contains(&p)));
            match free {
                Some(at) => self.order.push(left.remove(at)),
                None => break,
            }
        }
    }

    /// Of the steps that have no place in the order, those that wait for themselves.
    fn find_cycles(&mut self) {
        let mut known = BTreeSet::new();
        for step in 0..self.after.len() {
            if self.order.contains(&step) || known.contains(&step) {
                continue;
            }
            if let Some(cycle) = self.way_back(step) {
                known.extend(cycle.iter().copied());
                self.cycles.push(cycle);
            }
        }
    }

    /// The shortest way from a step along its parents back to itself, in the order in which they would run.
    fn way_back(&self, start: StepNo) -> Option<Vec<StepNo>> {
        let mut ways = vec![vec![start]];
        let mut seen = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for parent in self.parents(way[way.len() - 1]) {
                    let mut way = way.clone();
                    way.push(parent);
                    if parent == start {
                        way.reverse();
                        return Some(way);
                    }
                    if seen.insert(parent) {
                        longer.push(way);
                    }
                }
            }
            ways = longer;
        }
        None
    }

    fn fill(&mut self) {
        for step in self.order.clone() {
            let with = |sets: &[BTreeSet<StepNo>], parent: StepNo| {
                let mut set = sets[parent].clone();
                set.insert(parent);
                set
            };
            let before = self.parents(step).flat_map(|p| with(&self.before, p));
            self.before[step] = before.collect();
            let after = self.after[step]
                .iter()
                .flat_map(|p| with(&self.certain, *p));
            let mut certain: BTreeSet<_> = after.collect();
            let any_of = self.any_of[step].iter().map(|p| with(&self.certain, *p));
            let common = any_of.reduce(|a, b| a.intersection(&b).copied().collect());
            certain.extend(common.unwrap_or_default());
            self.certain[step] = certain;
        }
    }

    /// Whether, whichever way was taken to a step, one of these has completed before it.
    pub(super) fn one_is_certain(&self, step: StepNo, wanted: &dyn Fn(StepNo) -> bool) -> bool {
        let mut certain = vec![false; self.after.len()];
        for &step in &self.order {
            let by = |parent: &StepNo| wanted(*parent) || certain[*parent];
            let any_of = &self.any_of[step];
            certain[step] =
                self.after[step].iter().any(by) || (!any_of.is_empty() && any_of.iter().all(by));
        }
        certain[step]
    }

    /// Whether two of these can both have had to complete before a step begins; two alternatives of `after_any_of` need not.
    pub(super) fn two_are_before(&self, step: StepNo, wanted: &dyn Fn(StepNo) -> bool) -> bool {
        // By step: those that lead through it, itself included; and whether two of them are before it.
        let mut through = vec![BTreeSet::new(); self.after.len()];
        let mut two = vec![false; self.after.len()];
        for &step in &self.order {
            let before = self.before[step].iter().chain([&step]);
            through[step] = before.copied().filter(|s| wanted(*s)).collect();
            // One through this parent, another through another one that is required as well.
            let apart = |(a, b): (StepNo, StepNo)| {
                let (a, b) = (&through[a], &through[b]);
                !a.is_empty() && !b.is_empty() && (a != b || a.len() > 1)
            };
            two[step] = self.parents(step).any(|parent| {
                let others = self.after[step].iter().filter(|other| **other != parent);
                two[parent]
                    || (wanted(parent) && through[parent].len() > 1)
                    || others.map(|other| (parent, *other)).any(apart)
            });
        }
        two[step]
    }

    /// Whether two steps can wait at the same time.
    pub(super) fn can_be_active_together(&self, a: StepNo, b: StepNo) -> bool {
        a != b && !self.certain[a].contains(&b) && !self.certain[b].contains(&a)
    }
}
