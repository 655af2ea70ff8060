//! [`Row`]: a line of the table: a workload and its sides.

use crate::side::Side;

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// pg_mire.
    Ours,
    /// The least that PostgreSQL can do for the same work.
    Floor,
    /// Empty durable commits, as many at a time as the workload has tasks.
    Commits,
}

/// What is measured. An operation is what the rate counts, whatever the call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Operations a second: more is better.
    Rate(&'static str),
    /// CPU time of the server process an operation, in microseconds: less is better.
    Cpu(&'static str),
}

/// A workload and its sides.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: String,
    pub(crate) measure: Measure,
    pub(crate) sides: Vec<(Role, Side)>,
}

impl Row {
    pub(crate) fn new(id: &'static str, what: impl Into<String>, measure: Measure) -> Self {
        Self {
            id,
            what: what.into(),
            measure,
            sides: Vec::new(),
        }
    }

    /// Adds a side. They run in the order in which they were added.
    pub(crate) fn side(mut self, role: Role, side: Side) -> Self {
        self.sides.push((role, side));
        self
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.id == text || self.what.contains(text)
    }
}
