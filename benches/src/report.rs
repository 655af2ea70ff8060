//! The table, as Markdown.

use std::fmt::Write;

use crate::figures::{Spread, number};
use crate::machine::Machine;
use crate::rounds::{Measured, Sample};
use crate::row::{Measure, Role};

/// All that a run has found out.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) load_after: String,
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Measured>,
}

const NONE: &str = "–";

impl Report {
    /// Ids of the rows that have no figure.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let failed = self.rows.iter().filter(|row| row.failure.is_some());
        failed.map(|row| row.id).collect()
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = self.machine.to_string();
        let rounds = match self.rounds {
            1 => "One round: for a look, not for a comparison.".to_owned(),
            rounds => {
                format!("Medians of {rounds} rounds; in brackets the lowest and highest ratio.")
            }
        };
        writeln!(text, "- Load average after the run: {}", self.load_after)
            .expect("a String takes everything");
        write!(
            text,
            "\n{rounds}\n\n\
             | | workload | unit | ours | floor | ours ÷ floor | commits/s | ours ÷ commits | commits an operation: ours, floor | WAL bytes an operation: ours, floor |\n\
             |---|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
        )
        .expect("a String takes everything");
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

fn line(row: &Measured) -> String {
    let unit = match row.measure {
        Measure::Rate(unit) | Measure::Cpu(unit) => unit,
    };
    if let Some(failure) = &row.failure {
        return format!(
            "| {} | {} | {unit} | **failed**: {} |\n",
            row.id,
            row.what,
            failure.replace(['|', '\n'], " ")
        );
    }
    format!(
        "| {} | {} | {unit} | {} | {} | {} | {} | {} | {} | {} |\n",
        row.id,
        row.what,
        median(row, Role::Ours, |s| s.value),
        median(row, Role::Floor, |s| s.value),
        ratio(row, Role::Floor),
        median(row, Role::Commits, |s| s.value),
        ratio(row, Role::Commits),
        both(row, |s| s.commits),
        both(row, |s| s.wal_bytes),
    )
}

fn samples(row: &Measured, role: Role) -> Option<&[Sample]> {
    let side = row.sides.iter().find(|side| side.0 == role)?;
    Some(&side.1)
}

fn median(row: &Measured, role: Role, of: fn(&Sample) -> f64) -> String {
    samples(row, role)
        .and_then(|samples| Spread::of(samples.iter().map(of)))
        .map_or(NONE.to_owned(), |spread| number(spread.median))
}

fn both(row: &Measured, of: fn(&Sample) -> f64) -> String {
    match median(row, Role::Floor, of) {
        floor if floor == NONE => median(row, Role::Ours, of),
        floor => format!("{}, {floor}", median(row, Role::Ours, of)),
    }
}

/// Of the two figures of each round, which were taken one after the other.
fn ratio(row: &Measured, other: Role) -> String {
    let ratios = samples(row, Role::Ours)
        .zip(samples(row, other))
        .and_then(|(ours, other)| {
            Spread::of(ours.iter().zip(other).map(|(a, b)| a.value / b.value))
        });
    match ratios {
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
mod tests {
    use super::*;

    fn sample(value: f64) -> Sample {
        Sample {
            value,
            commits: 1.0,
            wal_bytes: 500.0,
        }
    }

    fn row(failure: Option<&str>) -> Measured {
        Measured {
            id: "X1",
            what: "work".into(),
            measure: Measure::Rate("events/s"),
            sides: vec![
                (Role::Ours, vec![sample(10.0), sample(30.0), sample(40.0)]),
                (Role::Floor, vec![sample(20.0), sample(30.0), sample(20.0)]),
            ],
            failure: failure.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        assert_eq!(
            line(&row(None)),
            "| X1 | work | events/s | 30.0 | 20.0 | **1.00** (0.500 to 2.00) | – | – | 1.00, 1.00 | 500, 500 |\n"
        );
    }

    #[test]
    fn a_failed_row_has_no_figures() {
        let line = line(&row(Some("wrong answer: 3 | 4")));
        assert!(line.contains("**failed**: wrong answer: 3   4"), "{line}");
        assert!(!line.contains("30.0"), "{line}");
    }
}
