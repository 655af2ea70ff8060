//! The tables, as Markdown.

use std::fmt::Write;

use crate::figures::{Spread, number};
use crate::judge::name;
use crate::machine::Machine;
use crate::rounds::{Measured, Sample};
use crate::row::Role;

/// All that a run has found out.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) load_after: String,
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Measured>,
    /// What was not measured, and why.
    pub(crate) missing: Vec<String>,
}

const NONE: &str = "–";

impl Report {
    /// Ids of the rows that have no figure.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let failed = self.rows.iter().filter(|row| row.failure.is_some());
        failed.map(|row| row.id.as_str()).collect()
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = self.machine.to_string();
        write!(
            text,
            "- Load average after the run: {}\n\n",
            self.load_after
        )
        .expect("a String takes everything");
        for missing in &self.missing {
            writeln!(text, "Not measured: {missing}.\n").expect("a String takes everything");
        }
        text += &match self.rounds {
            1 => "One round: for a look, not for a comparison.".to_owned(),
            rounds => {
                format!("Medians of {rounds} rounds; in brackets the lowest and highest ratio.")
            }
        };
        let (met, aimed) = self.score();
        write!(text, " Targets met: {met} of {aimed}.\n\n").expect("a String takes everything");
        text += "| | workload | unit | ours | mire | floor | commits/s | ours ÷ mire | ours ÷ floor | ours ÷ commits | target | |\n\
                 |---|---|---|--:|--:|--:|--:|--:|--:|--:|---|---|\n";
        text.extend(self.rows.iter().map(figures_line));
        text += "\nThe designs others chose, on the same workload:\n\n\
                 | | ours | message-db | ours ÷ message-db | global lock | ours ÷ global lock |\n\
                 |---|--:|--:|--:|--:|--:|\n";
        text.extend(self.rows.iter().filter_map(others_line));
        text += "\nWhat an operation costs: ours, mire, floor.\n\n\
                 | | calls | commits | WAL bytes |\n\
                 |---|--:|--:|--:|\n";
        text.extend(self.rows.iter().filter_map(costs_line));
        text
    }

    /// Rows that meet all of their targets, and those that have both targets and figures.
    fn score(&self) -> (usize, usize) {
        let judged: Vec<bool> = self.rows.iter().filter_map(Measured::meets_all).collect();
        (judged.iter().filter(|met| **met).count(), judged.len())
    }
}

fn figures_line(row: &Measured) -> String {
    let (id, what, unit) = (&row.id, &row.what, row.measure.unit());
    if let Some(failure) = &row.failure {
        let failure = failure.replace(['|', '\n'], " ");
        return format!("| {id} | {what} | {unit} | **failed**: {failure} |\n");
    }
    let value = |role| median(row, role, |s| s.value);
    let verdict = match row.meets_all() {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    };
    format!(
        "| {id} | {what} | {unit} | {} | {} | {} | {} | {} | {} | {} | {} | {verdict} |\n",
        value(Role::Ours),
        value(Role::Mire),
        value(Role::Floor),
        value(Role::Commits),
        ratio(row, Role::Mire),
        ratio(row, Role::Floor),
        ratio(row, Role::Commits),
        row.aims(),
    )
}

fn others_line(row: &Measured) -> Option<String> {
    row.figures(Role::GlobalLock)
        .filter(|_| row.failure.is_none())?;
    let value = |role| median(row, role, |s| s.value);
    Some(format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        row.id,
        value(Role::Ours),
        value(Role::MessageDb),
        ratio(row, Role::MessageDb),
        value(Role::GlobalLock),
        ratio(row, Role::GlobalLock),
    ))
}

fn costs_line(row: &Measured) -> Option<String> {
    if row.failure.is_some() {
        return None;
    }
    let each =
        |of: &dyn Fn(Role) -> String| [Role::Ours, Role::Mire, Role::Floor].map(of).join(", ");
    let calls = |role| {
        row.figures(role)
            .and_then(|figures| figures.calls)
            .map_or(NONE.to_owned(), number)
    };
    Some(format!(
        "| {} | {} | {} | {} |\n",
        row.id,
        each(&calls),
        each(&|role| median(row, role, |s| s.commits)),
        each(&|role| median(row, role, |s| s.wal_bytes)),
    ))
}

/// A line for who is watching.
pub(crate) fn spoken(row: &Measured) -> String {
    let mut line = format!("{}:", row.id);
    for side in &row.sides {
        let value = median(row, side.role, |s| s.value);
        write!(line, " {} {value}", name(side.role)).expect("a String takes everything");
    }
    line
}

fn median(row: &Measured, role: Role, of: fn(&Sample) -> f64) -> String {
    row.spread(role, of)
        .map_or(NONE.to_owned(), |spread| number(spread.median))
}

fn ratio(row: &Measured, other: Role) -> String {
    match row.ratio(other) {
        None => NONE.to_owned(),
        Some(Spread { median, min, max }) if min == max => format!("**{}**", number(median)),
        Some(Spread { median, min, max }) => format!(
            "**{}** ({} to {})",
            number(median),
            number(min),
            number(max)
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rounds::Figures;
    use crate::row::{Measure, Target};

    pub(crate) fn measured(measure: Measure, ours: &[f64], floor: &[f64]) -> Measured {
        let side = |role, values: &[f64]| {
            let samples = values.iter().map(|value| Sample {
                value: *value,
                commits: 1.0,
                wal_bytes: 500.0,
            });
            let mut figures = Figures::new(role, samples.collect());
            figures.calls = Some(2.0);
            figures
        };
        Measured {
            id: "X1".into(),
            what: "work".into(),
            measure,
            sides: vec![side(Role::Ours, ours), side(Role::Floor, floor)],
            targets: Vec::new(),
            x: None,
            failure: None,
        }
    }

    #[test]
    fn a_line_has_ratios_targets_and_a_verdict() {
        let mut row = measured(Measure::Rate("x/s"), &[10.0, 30.0, 40.0], &[20.0; 3]);
        row.targets = vec![Target::Ratio(Role::Floor, 2.0)];
        assert_eq!(
            figures_line(&row),
            "| X1 | work | x/s | 30.0 | – | 20.0 | – | – | **1.50** (0.500 to 2.00) | – | ≥ 2.00 × floor | **missed** |\n"
        );
        assert_eq!(
            costs_line(&row).as_deref(),
            Some("| X1 | 2.00, –, 2.00 | 1.00, –, 1.00 | 500, –, 500 |\n")
        );
        assert_eq!(others_line(&row), None);
    }

    #[test]
    fn a_failed_row_has_no_figures() {
        let mut row = measured(Measure::Rate("x/s"), &[30.0], &[30.0]);
        row.failure = Some("wrong answer: 3 | 4".into());
        let line = figures_line(&row);
        assert!(line.contains("**failed**: wrong answer: 3   4"), "{line}");
        assert!(!line.contains("30.0"), "{line}");
        assert_eq!(costs_line(&row), None);
    }
}
