//! Pictures of a topology and of an instance, as mermaid flowcharts; words in `draw/words.rs`.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::extract::short_name;
use crate::history::{StepStatus, UndoStatus};
use crate::topology::{SignalAction, Step, Terminal, Topology};

pub(crate) use words::describe;

/// How far the steps of an instance, and their undos, are: by the steps' names.
pub type StepStates = BTreeMap<String, (StepStatus, UndoStatus)>;

/// Steps are boxes (with double sides when they make many requests), gates diamonds, undos boxes on dashed lines.
pub(crate) fn mermaid(topology: &Topology) -> String {
    let mut drawing = Drawing::new();
    drawing.topology(topology);
    drawing.text
}

pub(crate) fn mermaid_instance(topology: &Topology, states: &StepStates) -> String {
    let mut drawing = Drawing::new();
    drawing.topology(topology);
    let mut used = BTreeSet::new();
    for (number, step) in topology.steps.iter().enumerate() {
        let (status, undo) = states.get(&step.name).copied().unwrap_or_default();
        let class = step_class(status);
        used.insert(class);
        drawing.line(format_args!("class s{number} {}", class.0));
        if step.undo.is_some() {
            let class = undo_class(undo);
            used.insert(class);
            drawing.line(format_args!("class u{number} {}", class.0));
        }
    }
    for (name, look) in used {
        drawing.line(format_args!("classDef {name} {look}"));
    }
    drawing.text
}

/// A class and how it looks.
type Class = (&'static str, &'static str);

fn step_class(status: StepStatus) -> Class {
    match status {
        StepStatus::Pending => PENDING,
        StepStatus::Active => ("active", "fill:#fff3bf,stroke:#f08c00"),
        StepStatus::Completed => ("completed", "fill:#d3f9d8,stroke:#2f9e44"),
        StepStatus::Failed => ("failed", "fill:#ffe3e3,stroke:#e03131"),
        StepStatus::TimedOut => ("timed_out", "fill:#ffe8cc,stroke:#e8590c"),
        StepStatus::Skipped => ("skipped", "fill:#f1f3f5,stroke:#868e96,color:#868e96"),
        StepStatus::Abandoned => ("abandoned", "fill:#e9ecef,stroke:#495057,color:#495057"),
    }
}

fn undo_class(status: UndoStatus) -> Class {
    match status {
        UndoStatus::None => PENDING,
        UndoStatus::Active => ("undoing", "fill:#e5dbff,stroke:#7048e8"),
        UndoStatus::Done => ("undone", "fill:#d0ebff,stroke:#1971c2"),
        UndoStatus::Failed => ("undo_failed", "fill:#e03131,stroke:#c92a2a,color:#fff"),
        UndoStatus::Skipped => ("undo_skipped", "fill:#f1f3f5,stroke:#1971c2,color:#868e96"),
    }
}

const PENDING: Class = ("pending", "fill:#fff,stroke:#adb5bd,color:#868e96");

struct Drawing {
    text: String,
}

impl Drawing {
    fn new() -> Self {
        Self {
            text: "flowchart TD\n".to_owned(),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "    {line}");
    }

    fn topology(&mut self, topology: &Topology) {
        for (number, step) in topology.steps.iter().enumerate() {
            self.step(number, step);
        }
        for (number, step) in topology.steps.iter().enumerate() {
            self.edges(number, step);
        }
        self.ends(topology);
        for (number, signal) in topology.signals.iter().enumerate() {
            let name = label(&signal.name);
            match signal.does {
                SignalAction::TriggersCompensation => {
                    self.line(format_args!("n{number}>\"{name}: turn back\"]"));
                }
                SignalAction::RoutesTo(step) => {
                    self.line(format_args!("n{number}>\"{name}\"] --> s{step}"));
                }
            }
        }
    }

    fn step(&mut self, number: usize, step: &Step) {
        let mut name = label(&step.name);
        if let Some(timeout) = step.action.timeout {
            let _ = write!(name, "<br/>within {timeout:?}");
        }
        if step.action.many {
            self.line(format_args!("s{number}[[\"{name}\"]]"));
        } else {
            self.line(format_args!("s{number}[\"{name}\"]"));
        }
        if !step.gates.is_empty() {
            let gates: Vec<_> = step.gates.iter().map(|gate| label(&gate.label)).collect();
            let gates = gates.join(" and ");
            self.line(format_args!(
                "g{number}{{\"{gates}?\"}} -- yes --> s{number}"
            ));
        }
    }

    fn edges(&mut self, number: usize, step: &Step) {
        let to = if step.gates.is_empty() { 's' } else { 'g' };
        for parent in &step.after {
            self.line(format_args!("s{parent} --> {to}{number}"));
        }
        for parent in &step.after_any_of {
            self.line(format_args!("s{parent} -- any --> {to}{number}"));
        }
        if let Some(undo) = &step.undo {
            let name = label(&step.name);
            let or_active = if undo.even_if_active {
                " -. even if active .-> "
            } else {
                " -.-> "
            };
            self.line(format_args!(
                "s{number}{or_active}u{number}[\"undo {name}\"]"
            ));
        }
    }

    fn ends(&mut self, topology: &Topology) {
        for (number, step) in topology.steps.iter().enumerate() {
            match step.terminal {
                Some(Terminal::Success) => {
                    self.line(format_args!("s{number} ==> completed([completed])"))
                }
                Some(Terminal::Failure) => {
                    self.line(format_args!("s{number} ==> failed([failed])"))
                }
                None => {}
            }
        }
    }
}

/// Text inside of quotes.
fn label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' | '\\' => {
                let _ = write!(label, "#{};", u32::from(c));
            }
            _ => label.push(c),
        }
    }
    label
}

/// The type of a step's output; None when nobody can ask for it.
fn output_of(step: &Step) -> Option<String> {
    let name = short_name(step.output_name);
    (name != "NoOutput" && name != "()").then_some(name)
}
