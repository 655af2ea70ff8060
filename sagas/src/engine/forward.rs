//! Going forward: steps whose turn has come, and the end when there is none.

use super::drive::{Part, Run};
use crate::history::{Fact, Outcome, StepStatus};
use crate::topology::{Fault, Terminal};

enum Turn {
    NotYet,
    Never(String),
    Now,
}

impl Run<'_> {
    pub(super) fn advance(&mut self) -> Result<(), Fault> {
        let before = self.facts.len();
        if self.goal_is_reached() {
            self.abandon_waiting();
        } else {
            for step in 0..self.topology.steps.len() {
                let part = Part { step, undo: false };
                match self.turn(part)? {
                    Turn::NotYet => {}
                    Turn::Never(why) => self.record(Fact::Skipped {
                        step: self.name(step),
                        undo: false,
                        why,
                    }),
                    Turn::Now => self.decide(part, None, None)?,
                }
            }
        }
        let any = |status| (0..self.topology.steps.len()).any(|s| self.forward(s) == status);
        // A step that has given up makes the next round turn back.
        let undecided = any(StepStatus::Active)
            || (!self.goal_is_reached() && (any(StepStatus::Failed) || any(StepStatus::TimedOut)));
        if self.facts.len() == before && !undecided {
            self.end(Outcome::Completed);
        }
        Ok(())
    }

    /// A terminal success has completed: nothing new begins, what runs in this process settles, and the instance ends.
    pub(super) fn goal_is_reached(&self) -> bool {
        let mut steps = self.topology.steps.iter().enumerate();
        steps.any(|(n, step)| {
            step.terminal == Some(Terminal::Success) && self.forward(n) == StepStatus::Completed
        })
    }

    fn turn(&self, part: Part) -> Result<Turn, Fault> {
        let step = self.step(part.step);
        let progress = self.instance.steps.get(&step.name);
        if progress.is_some_and(|progress| progress.status != StepStatus::Pending) {
            return Ok(Turn::NotYet);
        }
        if progress.is_some_and(|progress| progress.skip) {
            return Ok(Turn::Never("an operator left it out".to_owned()));
        }
        for &earlier in &step.after {
            match self.forward(earlier) {
                StepStatus::Completed => {}
                StepStatus::Skipped => {
                    return Ok(Turn::Never(format!("{} was skipped", self.name(earlier))));
                }
                _ => return Ok(Turn::NotYet),
            }
        }
        if !step.after_any_of.is_empty() {
            let mut any = step.after_any_of.iter().map(|&s| self.forward(s));
            if any.clone().all(|status| status == StepStatus::Skipped) {
                return Ok(Turn::Never(
                    "all that it may follow were skipped".to_owned(),
                ));
            }
            if !any.any(|status| status == StepStatus::Completed) {
                return Ok(Turn::NotYet);
            }
        }
        Ok(match self.gates_are_open(part)? {
            Ok(()) => Turn::Now,
            Err(gate) => Turn::Never(gate),
        })
    }
}
