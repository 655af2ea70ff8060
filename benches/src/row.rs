//! [`Row`]: a line of the table: a workload, its sides, and what is aimed at.

use crate::side::Side;

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// pg_mire.
    Ours,
    /// mire and mire-sagas.
    Mire,
    /// message-db's functions.
    MessageDb,
    /// PL/pgSQL with one advisory lock for all appends.
    GlobalLock,
    /// The least that PostgreSQL can do for the same work, or what else the row says.
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
    /// A figure that the side itself finds out: less is better.
    Figure(&'static str),
}

impl Measure {
    pub(crate) fn unit(self) -> &'static str {
        let (Self::Rate(unit) | Self::Cpu(unit) | Self::Figure(unit)) = self;
        unit
    }

    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Self::Rate(_))
    }
}

/// What is aimed at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Our figure divided by another side's: at least this where more is better, else at most.
    Ratio(Role, f64),
    /// Our figure itself, likewise.
    Figure(f64),
    /// At most so many statements an operation.
    Calls(f64),
    /// At most so many commits an operation.
    Commits(f64),
    /// At most so many bytes of WAL an operation.
    Wal(f64),
    /// One of them is enough.
    Either(Box<[Self; 2]>),
}

impl Target {
    pub(crate) fn or(self, other: Self) -> Self {
        Self::Either(Box::new([self, other]))
    }
}

/// A workload and its sides.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) measure: Measure,
    pub(crate) sides: Vec<(Role, Side)>,
    /// All of them shall be met.
    pub(crate) targets: Vec<Target>,
    /// Where it lies in a plot, if it does.
    pub(crate) x: Option<f64>,
}

impl Row {
    pub(crate) fn new(id: impl Into<String>, what: impl Into<String>, measure: Measure) -> Self {
        Self {
            id: id.into(),
            what: what.into(),
            measure,
            sides: Vec::new(),
            targets: Vec::new(),
            x: None,
        }
    }

    /// Adds a side. They run in the order in which they were added.
    pub(crate) fn side(mut self, role: Role, side: Side) -> Self {
        self.sides.push((role, side));
        self
    }

    pub(crate) fn ours(self, side: Side) -> Self {
        self.side(Role::Ours, side)
    }

    pub(crate) fn mire(self, side: Side) -> Self {
        self.side(Role::Mire, side)
    }

    pub(crate) fn floor(self, side: Side) -> Self {
        self.side(Role::Floor, side)
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    pub(crate) fn at(mut self, x: f64) -> Self {
        self.x = Some(x);
        self
    }

    /// Whether it is meant by `--only TEXT`: the id, what its id begins with, or part of the description.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let first = self.id.split(['/', ' ']).next();
        self.id == text || first == Some(text) || self.what.contains(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_named_by_its_id_or_the_group_it_is_in() {
        let row = Row::new("B7/32", "append at 32 tasks", Measure::Rate("events/s"));
        for text in ["B7", "B7/32", "at 32"] {
            assert!(row.matches(text), "{text}");
        }
        let other = Row::new("B10", "load", Measure::Rate("loads/s"));
        assert!(!other.matches("B1"));
    }
}
