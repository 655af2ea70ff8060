//! Answers and signals at odd times, twice, or broken: nothing is undone twice, forgotten, or taken for done.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::kit::{Graph, asks, asks_for, count, gives, said};
use crate::effect::EffectError;
use crate::engine::{Input, Status, drive};
use crate::history::{Fact, Instance, StepStatus, UndoStatus};
use crate::topology::{Action, Refusal, Response, Topology};

/// An action whose good answers are refusals when they say "no", and unreadable when they say "?".
fn picky(kinds: &'static [&'static str]) -> Action {
    Action {
        respond: Arc::new(|response| match response.data.as_str() {
            Some("no") => Err(Refusal::Failed("no".into())),
            Some("?") => Err(Refusal::Unreadable("?".into())),
            _ => Ok(response.data.clone()),
        }),
        ..asks_for(kinds)
    }
}

/// An instance driven by hand, one input at a time.
struct ByHand {
    topology: Arc<Topology>,
    instance: Instance,
}

impl ByHand {
    fn new(graph: Graph) -> Self {
        let mut instance = Instance::new("trip", "1");
        let started = Fact::Started {
            state: Value::Null,
            trigger: None,
            parent: None,
        };
        instance.apply(1, 0, &[started]);
        let mut new = Self {
            topology: graph.topology(),
            instance,
        };
        new.drive(&[]);
        new
    }

    fn drive(&mut self, inputs: &[Input]) -> (Status, Vec<Fact>) {
        let drive = drive(&self.topology, &self.instance, 0, inputs).expect("it can be driven");
        self.instance = drive.instance;
        (drive.status, drive.facts)
    }
}

fn answer(step: &str, undo: bool, activation: Option<u32>, request: u32, id: &str) -> Input {
    Input::Answer {
        step: step.to_owned(),
        undo,
        activation,
        request,
        answer: Ok(said("done")),
        id: Some(id.to_owned()),
    }
}

fn refusal(step: &str, undo: bool, activation: Option<u32>, request: u32, id: &str) -> Input {
    Input::Answer {
        step: step.to_owned(),
        undo,
        activation,
        request,
        answer: Err("no".to_owned()),
        id: Some(id.to_owned()),
    }
}

#[test]
fn a_signal_that_has_nothing_to_do_with_a_step_does_not_undo_it_again() {
    let mut s = Graph::new()
        .step("a", &[], asks_for(&["do x", "do y"]))
        .undo(asks("do undo"))
        .start();
    s.script("do y", |_, _| Err(EffectError::permanent("no")));
    s.run();
    assert_eq!(s.status(), "compensated");
    assert_eq!(count(&s, "undo of a completed"), 1);
    s.signal_raw("whatever", json!(null));
    assert_eq!(count(&s, "undo of a asks"), 1, "{}", s.history());
    assert_eq!(s.status(), "compensated");
}

#[test]
fn a_late_refusal_of_a_failed_undo_is_no_success() {
    let undo = || {
        let mut undo = picky(&["undo"]);
        undo.timeout = Some(Duration::from_secs(10));
        undo
    };
    let mut s = Graph::new().step("a", &[], asks("x")).undo(undo()).run();
    s.answer_raw("a", json!(1)).compensate("fraud");
    s.advance(Duration::from_secs(10));
    assert_eq!(s.status(), "intervention");
    s.answer_undo_raw("a", json!("no"));
    assert_eq!(s.undo_status("a"), UndoStatus::Failed, "{}", s.history());
    assert_eq!(s.status(), "intervention");
    s.retry("a").answer_undo_raw("a", json!("yes"));
    assert_eq!(s.status(), "compensated");
}

#[test]
fn an_undo_of_two_requests_is_not_done_when_one_is_answered_late() {
    let mut s = ByHand::new(
        Graph::new()
            .step("a", &[], asks("do a"))
            .undo(asks_for(&["x", "y"]))
            .step("b", &["a"], asks("b")),
    );
    s.drive(&[Input::Effect {
        step: 0,
        undo: false,
        activation: 1,
        request: 0,
        result: Ok(said(1)),
    }]);
    s.drive(&[refusal("b", false, None, 0, "b")]);
    let (status, _) = s.drive(&[refusal("a", true, None, 0, "x")]);
    assert_eq!(status, Status::Intervention);
    let (status, facts) = s.drive(&[answer("a", true, Some(1), 1, "y")]);
    assert_eq!(status, Status::Intervention, "x was refused: {facts:?}");
    let (status, facts) = s.drive(&[answer("a", true, Some(1), 0, "x after all")]);
    assert_eq!(status, Status::Compensated, "{facts:?}");
}

#[test]
fn an_answer_with_an_id_counts_once_also_for_a_later_activation() {
    let mut s = ByHand::new(
        Graph::new()
            .step("a", &[], asks("a"))
            .undo(asks("undo"))
            .step("b", &["a"], asks("b")),
    );
    s.drive(&[answer("a", false, None, 0, "1")]);
    s.drive(&[refusal("b", false, None, 0, "2")]);
    let (status, _) = s.drive(&[refusal("a", true, None, 0, "3")]);
    assert_eq!(status, Status::Intervention);
    let retry = Fact::RetryRequested {
        step: None,
        by: String::new(),
    };
    s.instance.apply(9, 0, &[retry]);
    let (status, _) = s.drive(&[]);
    assert_eq!(status, Status::Compensating);
    let (status, facts) = s.drive(&[refusal("a", true, None, 0, "3")]);
    assert_eq!(
        status,
        Status::Compensating,
        "the second undo has not been answered"
    );
    assert_eq!(facts, []);
    // The same by another way: as an event of its own.
    let again = Fact::Answered {
        step: "a".into(),
        undo: true,
        activation: None,
        request: 0,
        ok: false,
        kind: None,
        data: Value::Null,
        error: None,
        id: Some("3".into()),
    };
    s.instance.apply(11, 0, &[again]);
    assert_eq!(s.drive(&[]), (Status::Compensating, vec![]));
    let (status, _) = s.drive(&[answer("a", true, None, 0, "4")]);
    assert_eq!(status, Status::Compensated);
}

#[test]
fn a_success_after_a_refusal_of_the_same_request_is_undone() {
    let mut s = ByHand::new(
        Graph::new()
            .step("a", &[], asks_for(&["x", "y"]))
            .undo(asks("undo")),
    );
    let (status, _) = s.drive(&[refusal("a", false, Some(1), 0, "1")]);
    assert_eq!(status, Status::Compensated);
    let (status, facts) = s.drive(&[answer("a", false, Some(1), 0, "2")]);
    assert_eq!(status, Status::Compensating, "{facts:?}");
}

#[test]
fn of_several_results_those_after_a_broken_one_are_not_lost() {
    let mut s = ByHand::new(
        Graph::new()
            .step("a", &[], asks("do a"))
            .step(
                "b",
                &[],
                Action {
                    many: false,
                    ..picky(&["do b"])
                },
            )
            .step("c", &[], asks("do c"))
            .step("d", &["a", "b", "c"], gives(1)),
    );
    let result = |step, said: Response| Input::Effect {
        step,
        undo: false,
        activation: 1,
        request: 0,
        result: Ok(said),
    };
    let inputs = [result(0, said(1)), result(1, said("?")), result(2, said(1))];
    let drive = drive(&s.topology, &s.instance, 0, &inputs).expect("some could be decided");
    assert_eq!(drive.due, Some(Duration::ZERO), "the fault comes next");
    s.instance = drive.instance;
    let status = |step: &str| s.instance.steps[step].status;
    assert_eq!(status("c"), StepStatus::Completed, "{:?}", drive.facts);
    let left: Vec<_> = drive.effects.iter().map(|e| e.kind.as_str()).collect();
    assert!(left.is_empty(), "runs again: {left:?}");
}

#[test]
fn an_endless_timeout_is_no_trouble() {
    let mut s = ByHand::new(Graph::new().step("a", &[], asks("x")).timeout(u64::MAX));
    let drive = drive(&s.topology, &s.instance, 0, &[]).expect("it can be driven");
    let hundred_years = Duration::from_millis(3_155_760_000_000);
    assert!(drive.due.expect("it has a deadline") <= hundred_years);
    assert_eq!(s.drive(&[]).0, Status::Running);
}

#[test]
fn what_an_effect_says_is_cut_to_what_a_history_can_take() {
    let mut s = Graph::new().step("a", &[], asks("do a")).start();
    s.script("do a", |_, _| {
        Err(EffectError::permanent(format!("\0{}", "x".repeat(1 << 21))))
    });
    s.run();
    assert_eq!(s.status(), "compensated");
    assert!(s.history().len() < 100_000, "{}", s.history().len());
    assert!(!s.history().contains('\0'));
}

/// Twenty-four storeys of two steps, each after both of the storey below: 16 million ways down.
#[test]
fn a_tall_graph_is_undone_in_no_time() {
    let names: Vec<String> = (0..48).map(|n| n.to_string()).collect();
    let mut graph = Graph::new();
    for storey in 0..24 {
        let below: Vec<&str> = match storey {
            0 => Vec::new(),
            _ => vec![&names[2 * storey - 2], &names[2 * storey - 1]],
        };
        for step in [2 * storey, 2 * storey + 1] {
            graph = graph
                .step(&names[step], &below, asks("do"))
                .undo(asks("do undo"));
        }
    }
    let mut s = graph.step("last", &["46", "47"], asks("x")).start();
    s.script("do undo", |_, _| Ok(said("undone")));
    s.run();
    let begun = std::time::Instant::now();
    s.fail("last", "no");
    assert_eq!(s.status(), "compensated");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}
