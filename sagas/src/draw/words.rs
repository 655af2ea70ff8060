//! A topology in words.

use std::fmt::Write as _;

use super::output_of;
use crate::topology::{Action, SignalAction, Step, Terminal, Topology};

pub(crate) fn describe(topology: &Topology) -> String {
    let Topology {
        name,
        version,
        steps,
        signals,
        ..
    } = topology;
    let mut text = format!("saga {name}, version {version}\n");
    for step in steps {
        let sentence = sentence(topology, step);
        let _ = writeln!(text, "- {}: {sentence}", step.name);
    }
    for signal in signals {
        let _ = match signal.does {
            SignalAction::TriggersCompensation => {
                writeln!(text, "- signal {}: turns the instance back", signal.name)
            }
            SignalAction::RoutesTo(step) => {
                writeln!(
                    text,
                    "- signal {}: answers {}",
                    signal.name, steps[step].name
                )
            }
        };
    }
    text
}

fn sentence(topology: &Topology, step: &Step) -> String {
    let name = |step: &usize| topology.steps[*step].name.clone();
    let all: Vec<_> = step.after.iter().map(name).collect();
    let any: Vec<_> = step.after_any_of.iter().map(name).collect();
    let mut parts = vec![match (all.is_empty(), any.is_empty()) {
        (true, true) => "begins at once".to_owned(),
        (false, true) => format!("comes after {}", all.join(" and ")),
        (true, false) => format!("comes after {}", any.join(" or ")),
        (false, false) => format!(
            "comes after {} and one of {}",
            all.join(" and "),
            any.join(", ")
        ),
    }];
    if !step.gates.is_empty() {
        let gates: Vec<_> = step.gates.iter().map(|gate| gate.label.as_str()).collect();
        parts.push(format!("gated by {}", gates.join(" and ")));
    }
    parts.extend(effects(&step.action));
    if let Some(output) = output_of(step) {
        parts.push(format!("gives {output}"));
    }
    if let Some(timeout) = step.action.timeout {
        parts.push(format!("times out after {timeout:?}"));
    }
    if let Some(undo) = &step.undo {
        let even = if undo.even_if_active {
            " even if active"
        } else {
            ""
        };
        let by = effects(&undo.action).map(|by| format!(" ({by})"));
        parts.push(format!("is undone{even}{}", by.unwrap_or_default()));
    }
    parts.extend(step.terminal.map(|terminal| match terminal {
        Terminal::Success => "then the instance has completed".to_owned(),
        Terminal::Failure => "then the instance has failed".to_owned(),
    }));
    parts.join(", ")
}

fn effects(action: &Action) -> Option<String> {
    let mut kinds: Vec<_> = action.effects.keys().map(String::as_str).collect();
    kinds.sort_unstable();
    (!kinds.is_empty()).then(|| format!("fulfils {} in process", kinds.join(" and ")))
}
