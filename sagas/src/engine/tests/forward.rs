use std::time::Duration;

use serde_json::json;

use super::kit::{Graph, asks, asks_for, count, gives, panics, place, said};
use crate::effect::EffectError;
use crate::history::StepStatus;
use crate::retry::RetryPolicy;
use crate::topology::SignalAction;

#[test]
fn a_chain_of_effects_and_values_runs_to_its_goal() {
    let s = Graph::new()
        .step("a", &[], asks("do a"))
        .step("b", &["a"], gives(1))
        .step("c", &["b"], asks("do c"))
        .goal()
        .run();
    assert_eq!(s.status(), "completed", "{}", s.history());
    assert!(place(&s, "a completed") < place(&s, "c asks do c"));
}

#[test]
fn a_request_without_an_effect_waits_in_the_outbox_for_its_answer() {
    let mut s = Graph::new()
        .step("a", &[], asks("book"))
        .step("b", &["a"], asks("pay"))
        .goal()
        .run();
    assert_eq!(s.outbox(), ["trip/1/a/1/0"]);
    s.answer_raw("a", json!(1));
    assert_eq!(s.outbox(), ["trip/1/b/1/0"]);
    s.answer_raw("b", json!(2));
    assert_eq!(s.status(), "completed");
    assert!(s.outbox().is_empty());
}

#[test]
fn independent_steps_are_asked_at_once_and_joined() {
    let mut s = Graph::new()
        .step("a", &[], asks("x"))
        .step("b", &[], asks("y"))
        .step("c", &["a", "b"], gives(1))
        .goal()
        .run();
    assert_eq!(s.outbox().len(), 2);
    s.answer_raw("b", json!(1));
    assert_eq!(s.step_status("c"), StepStatus::Pending);
    s.answer_raw("a", json!(1));
    assert_eq!(s.status(), "completed");
}

#[test]
fn one_of_several_is_enough_for_after_any_of() {
    let mut s = Graph::new()
        .step("a", &[], asks("x"))
        .step("b", &[], asks("y"))
        .step("c", &[], gives(1))
        .any_of(&["a", "b"])
        .goal()
        .run();
    s.answer_raw("b", json!(1));
    assert_eq!(s.status(), "completed");
    assert_eq!(s.step_status("a"), StepStatus::Abandoned);
    assert!(s.outbox().is_empty(), "nobody waits for a any more");
}

#[test]
fn a_saga_whose_terminal_step_is_skipped_ends() {
    let s = Graph::new()
        .step("a", &[], gives(1))
        .step("b", &["a"], gives(2))
        .gated(false)
        .goal()
        .run();
    assert_eq!(s.status(), "completed");
    assert_eq!(s.step_status("b"), StepStatus::Skipped);
}

#[test]
fn what_follows_a_skipped_step_is_skipped_unless_another_way_leads_there() {
    let s = Graph::new()
        .step("a", &[], gives(1))
        .gated(false)
        .step("b", &[], gives(2))
        .step("c", &["a"], gives(3))
        .step("d", &[], gives(4))
        .any_of(&["c", "b"])
        .goal()
        .run();
    assert_eq!(s.step_status("c"), StepStatus::Skipped);
    assert_eq!(s.step_status("d"), StepStatus::Completed);
}

#[test]
fn an_early_answer_waits_for_its_step_and_nothing_is_published_for_it() {
    let mut s = Graph::new()
        .step("a", &[], asks("x"))
        .step("b", &["a"], asks("y"))
        .goal()
        .run();
    s.answer_raw("b", json!("early"));
    assert_eq!(s.step_status("b"), StepStatus::Pending);
    s.answer_raw("a", json!(1));
    assert_eq!(s.status(), "completed");
    assert!(s.outbox().is_empty());
}

#[test]
fn a_second_answer_changes_nothing() {
    let mut s = Graph::new()
        .step("a", &[], asks("x"))
        .undo(asks("do undo"))
        .step("b", &["a"], asks("y"))
        .run();
    s.answer_raw("a", json!(1)).answer_raw("a", json!(2));
    assert_eq!(count(&s, "a completed"), 1);
    assert_eq!(s.status(), "running");
}

#[test]
fn a_signal_answers_its_step_also_when_it_is_early() {
    let graph = || {
        Graph::new()
            .step("a", &[], asks("x"))
            .step("b", &["a"], asks("y"))
            .goal()
            .signal("paid", SignalAction::RoutesTo(1))
    };
    let mut late = graph().run();
    late.answer_raw("a", json!(1)).signal_raw("paid", json!(1));
    assert_eq!(late.status(), "completed");
    let mut early = graph().run();
    early.signal_raw("paid", json!(1));
    assert_eq!(early.status(), "running");
    early.answer_raw("a", json!(1));
    assert_eq!(early.status(), "completed");
}

#[test]
fn a_step_with_many_requests_completes_with_the_last_answer() {
    let mut s = Graph::new()
        .step("a", &[], asks_for(&["x", "do y", "do z"]))
        .goal()
        .run();
    assert_eq!(s.status(), "running");
    assert_eq!(s.outbox().len(), 1);
    s.answer_raw("a", json!(1));
    assert_eq!(s.status(), "completed", "{}", s.history());
}

#[test]
fn a_transient_failure_is_retried_after_its_wait_and_not_before() {
    let mut s = Graph::new()
        .step("a", &[], asks("do a"))
        .retry(
            RetryPolicy::default()
                .attempts(3)
                .backoff(Duration::from_secs(1), Duration::from_secs(10))
                .jitter(false),
        )
        .goal()
        .start();
    let mut failures = 2;
    s.script("do a", move |_, _| {
        failures -= 1;
        if failures >= 0 {
            Err(EffectError::transient("busy"))
        } else {
            Ok(said(1))
        }
    });
    s.run();
    assert_eq!(s.status(), "running");
    s.advance(Duration::from_millis(999));
    assert_eq!(count(&s, "attempt"), 1);
    s.advance(Duration::from_millis(1));
    assert_eq!(count(&s, "attempt"), 2);
    s.advance(Duration::from_secs(2));
    assert_eq!(s.status(), "completed", "{}", s.history());
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let mut s = Graph::new()
        .step("a", &[], asks("do a"))
        .retry(RetryPolicy::default())
        .start();
    s.script("do a", |_, _| Err(EffectError::permanent("no such room")));
    s.run();
    assert_eq!(s.status(), "compensated");
    assert_eq!(count(&s, "attempt"), 0);
}

#[test]
fn a_decide_that_panics_is_a_fault_and_loses_nothing_decided_before_it() {
    let s = Graph::new()
        .step("a", &[], asks("do a"))
        .step("b", &["a"], panics())
        .run();
    assert_eq!(s.fault(), Some("decide of step b: panicked: no luck"));
    assert_eq!(s.step_status("a"), StepStatus::Completed);
    assert_eq!(s.status(), "running");
}

#[test]
fn what_has_just_been_abandoned_is_never_published() {
    let s = Graph::new()
        .step("slow", &[], asks("x"))
        .step("quick", &[], gives(1))
        .goal()
        .run();
    assert_eq!(s.status(), "completed");
    assert!(s.outbox().is_empty());
    assert_eq!(s.step_status("slow"), StepStatus::Abandoned);
}

#[test]
fn once_the_goal_is_reached_a_stragglers_failure_changes_nothing() {
    let mut s = Graph::new()
        .step("straggler", &[], asks("do it"))
        .retry(RetryPolicy::default().attempts(2))
        .step("quick", &[], asks("do quick"))
        .undo(asks("do undo"))
        .goal()
        .start();
    s.script("do it", |_, _| Err(EffectError::transient("no")));
    s.run();
    assert_eq!(s.status(), "running", "what runs here settles first");
    s.advance(Duration::from_secs(1));
    assert_eq!(s.step_status("straggler"), StepStatus::Failed);
    assert_eq!(s.status(), "completed", "{}", s.history());
}
