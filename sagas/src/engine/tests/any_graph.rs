//! Graphs, answers and failures as they come: whatever happens, an instance ends or asks for an operator, its undos run
//! against the graph, and (the simulation checks it at every step) its log says the same as its memory.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::kit::{Graph, asks, said};
use crate::effect::EffectError;
use crate::retry::RetryPolicy;
use crate::simulate::Simulation;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[derive(Clone, Debug)]
struct Made {
    /// Bit i: after step i.
    after: u8,
    any: bool,
    in_process: bool,
    undo: u8,
    timeout: bool,
    gate: u8,
    fails: u8,
}

fn made() -> impl Strategy<Value = Made> {
    (
        0..64u8,
        any::<bool>(),
        any::<bool>(),
        0..4u8,
        any::<bool>(),
        0..6u8,
        0..8u8,
    )
        .prop_map(
            |(after, any, in_process, undo, timeout, gate, fails)| Made {
                after,
                any,
                in_process,
                undo,
                timeout,
                gate,
                fails,
            },
        )
}

fn graph(steps: &[Made]) -> Graph {
    let mut graph = Graph::new();
    for (n, made) in steps.iter().enumerate() {
        let before: Vec<_> = (0..n)
            .filter(|i| made.after & (1 << i) != 0)
            .map(|i| NAMES[i])
            .collect();
        let kind = if made.in_process {
            format!("do {}", NAMES[n])
        } else {
            NAMES[n].to_owned()
        };
        let after: &[&str] = if made.any { &[] } else { &before };
        graph = graph.step(NAMES[n], after, asks(&kind)).retry(
            RetryPolicy::default()
                .attempts(2)
                .backoff(Duration::from_secs(1), Duration::from_secs(1)),
        );
        if made.any && !before.is_empty() {
            graph = graph.any_of(&before);
        }
        if made.timeout {
            graph = graph.timeout(5);
        }
        if made.gate == 0 {
            graph = graph.gated(false);
        }
        match made.undo {
            0 => {}
            1 => graph = graph.undo(asks(&format!("do undo {}", NAMES[n]))),
            2 => graph = graph.undo(asks(&format!("undo {}", NAMES[n]))),
            _ => {
                graph = graph
                    .undo(asks(&format!("do undo {}", NAMES[n])))
                    .even_if_active()
            }
        }
    }
    graph
}

#[derive(Clone, Debug)]
enum Happens {
    Answer(usize),
    Fail(usize),
    Undone(usize),
    NotUndone(usize),
    Cancel,
    Time,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (0..6usize).prop_map(Happens::Answer),
        2 => (0..6usize).prop_map(Happens::Fail),
        3 => (0..6usize).prop_map(Happens::Undone),
        1 => (0..6usize).prop_map(Happens::NotUndone),
        1 => Just(Happens::Cancel),
        2 => Just(Happens::Time),
    ]
}

fn let_happen(s: &mut Simulation, steps: usize, what: &Happens) {
    let name = |n: usize| NAMES[n % steps];
    match what {
        Happens::Answer(n) => s.answer_raw(name(*n), json!(1)),
        Happens::Fail(n) => s.fail(name(*n), "no"),
        Happens::Undone(n) => s.answer_undo_raw(name(*n), json!(1)),
        Happens::NotUndone(n) => s.fail_undo(name(*n), "no"),
        Happens::Cancel => s.cancel("enough"),
        Happens::Time => s.advance(Duration::from_secs(2)),
    };
}

/// Every undo of a completed step begins when those of the steps after it have ended.
fn check_order(s: &Simulation, steps: &[Made]) {
    let history = s.history();
    let lines: Vec<_> = history.lines().collect();
    let first = |line: String| lines.iter().position(|l| l.contains(&line));
    for (n, made) in steps.iter().enumerate() {
        for before in (0..n).filter(|i| made.after & (1 << i) != 0) {
            let completed = first(format!(" {} completed", NAMES[n]));
            let undone = first(format!("undo of {} completed", NAMES[n]));
            let earlier = first(format!("undo of {} asks", NAMES[before]));
            if let (Some(completed), Some(undone), Some(earlier)) = (completed, undone, earlier)
                && completed < earlier
            {
                assert!(
                    undone < earlier,
                    "{} before {}:\n{history}",
                    NAMES[before],
                    NAMES[n]
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_instance_ends_or_asks_for_an_operator(
        steps in prop::collection::vec(made(), 1..=6),
        what in prop::collection::vec(happens(), 0..20),
    ) {
        let mut s = graph(&steps).start();
        for (n, made) in steps.iter().enumerate() {
            let mut failures = made.fails;
            s.script(&format!("do {}", NAMES[n]), move |_, _| {
                failures = failures.saturating_sub(1);
                if failures > 3 { Err(EffectError::transient("busy")) } else { Ok(said(1)) }
            });
        }
        s.run();
        for what in &what {
            let_happen(&mut s, steps.len(), what);
            prop_assert_eq!(s.fault(), None);
        }
        // Everybody outside answers in the end.
        for _ in 0..40 {
            s.advance(Duration::from_secs(10));
            let waiting: Vec<_> = s.outbox().iter().map(|key| (*key).to_owned()).collect();
            for key in waiting {
                let step = key.split('/').nth(2).expect("a key names its step").to_owned();
                match step.strip_suffix("~undo") {
                    Some(step) => s.answer_undo_raw(step, json!(1)),
                    None => s.answer_raw(&step, json!(1)),
                };
            }
        }
        let ended = ["completed", "compensated", "cancelled", "failed", "intervention"];
        prop_assert!(ended.contains(&s.status()), "{} {}", s.status(), s.history());
        prop_assert!(s.outbox().is_empty(), "{:?} {}", s.outbox(), s.history());
        check_order(&s, &steps);
    }
}
