use std::time::Duration;

use serde_json::json;

use super::kit::{Graph, asks, asks_for, count, gives, place, said};
use crate::effect::EffectError;
use crate::history::{StepStatus, UndoStatus};
use crate::topology::SignalAction;

/// Declared in another order than they run.
fn trip() -> Graph {
    Graph::new()
        .step("flight", &[], asks("flight"))
        .undo(asks("undo flight"))
        .step("hotel", &[], asks("hotel"))
        .undo(asks("undo hotel"))
        .step("pay", &["flight", "hotel"], asks("pay"))
        .undo(asks("undo pay"))
        .step("ticket", &["pay"], asks("ticket"))
        .goal()
}

#[test]
fn compensation_runs_against_the_graph_and_independent_undos_together() {
    let mut s = trip().run();
    s.answer_raw("hotel", json!(1))
        .answer_raw("flight", json!(1))
        .answer_raw("pay", json!(1))
        .fail("ticket", "sold out");
    assert_eq!(s.outbox(), ["trip/1/pay~undo/1/0"], "the latest first");
    s.answer_undo_raw("pay", json!(1));
    assert_eq!(
        s.outbox(),
        ["trip/1/flight~undo/1/0", "trip/1/hotel~undo/1/0"],
        "completed after hotel, so first; both at once"
    );
    s.answer_undo_raw("hotel", json!(1));
    assert_eq!(s.status(), "compensating");
    s.answer_undo_raw("flight", json!(1));
    assert_eq!(s.status(), "compensated");
}

#[test]
fn an_undo_that_fails_is_not_compensated_and_asks_for_an_operator() {
    let mut s = trip().run();
    s.answer_raw("hotel", json!(1))
        .answer_raw("flight", json!(1))
        .answer_raw("pay", json!(1))
        .fail("ticket", "sold out")
        .fail_undo("pay", "bank is shut");
    assert_eq!(s.status(), "intervention");
    assert_eq!(s.undo_status("pay"), UndoStatus::Failed);
    assert_eq!(s.undo_status("hotel"), UndoStatus::None, "still booked");
    s.advance(Duration::from_secs(1_000_000));
    assert_eq!(s.status(), "intervention", "never retried by itself");

    s.retry("pay");
    assert_eq!(s.outbox(), ["trip/1/pay~undo/2/0"], "another activation");
    s.fail_undo("pay", "still shut");
    assert_eq!(s.status(), "intervention");
    s.skip("pay");
    assert_eq!(s.undo_status("pay"), UndoStatus::Skipped);
    s.answer_undo_raw("hotel", json!(1))
        .answer_undo_raw("flight", json!(1));
    assert_eq!(s.status(), "compensated", "{}", s.history());
}

#[test]
fn a_failed_undo_does_not_stop_the_independent_ones() {
    let mut s = trip().run();
    s.answer_raw("hotel", json!(1))
        .answer_raw("flight", json!(1))
        .fail("pay", "no money")
        .fail_undo("flight", "no");
    assert_eq!(s.status(), "compensating");
    s.answer_undo_raw("hotel", json!(1));
    assert_eq!(s.status(), "intervention");
    assert_eq!(s.undo_status("hotel"), UndoStatus::Done);
}

#[test]
fn a_late_success_of_a_failed_undo_counts() {
    let mut s = trip().run();
    s.answer_raw("hotel", json!(1))
        .answer_raw("flight", json!(1))
        .fail("pay", "no money")
        .answer_undo_raw("hotel", json!(1))
        .fail_undo("flight", "no");
    assert_eq!(s.status(), "intervention");
    s.answer_undo_raw("flight", json!(1));
    assert_eq!(s.status(), "compensated", "{}", s.history());
}

#[test]
fn unsent_requests_of_a_cancelled_saga_are_withdrawn_and_late_answers_undone() {
    let mut s = trip().run();
    s.answer_raw("hotel", json!(1)).cancel("changed my mind");
    assert_eq!(s.step_status("flight"), StepStatus::Abandoned);
    assert_eq!(s.outbox(), ["trip/1/hotel~undo/1/0"]);
    s.answer_undo_raw("hotel", json!(1));
    assert_eq!(s.status(), "cancelled");
    s.answer_raw("flight", json!("booked after all"));
    assert_eq!(s.outbox(), ["trip/1/flight~undo/1/0"]);
    assert_eq!(s.status(), "compensating");
    s.answer_undo_raw("flight", json!(1));
    assert_eq!(s.status(), "cancelled");
    s.answer_raw("flight", json!("again"));
    assert_eq!(count(&s, "undo of flight asks"), 1, "{}", s.history());
}

#[test]
fn a_timed_out_step_is_undone_when_asked_and_again_for_its_late_success() {
    let mut s = Graph::new()
        .step("a", &[], asks("x"))
        .timeout(10)
        .undo(asks("do undo"))
        .even_if_active()
        .run();
    s.advance(Duration::from_secs(9));
    assert_eq!(s.status(), "running");
    s.advance(Duration::from_secs(1));
    assert_eq!(s.step_status("a"), StepStatus::TimedOut);
    assert_eq!(s.status(), "compensated");
    assert_eq!(count(&s, "undo of a completed"), 1);
    s.answer_raw("a", json!("late"));
    assert_eq!(count(&s, "undo of a completed"), 2, "{}", s.history());
    assert_eq!(s.status(), "compensated");
}

#[test]
fn a_timed_out_step_is_not_undone_unless_it_succeeds() {
    let mut s = Graph::new()
        .step("a", &[], asks("x"))
        .timeout(10)
        .undo(asks("do undo"))
        .run();
    s.advance(Duration::from_secs(10));
    assert_eq!(s.status(), "compensated");
    assert_eq!(s.undo_status("a"), UndoStatus::None);
    s.fail("a", "no");
    assert_eq!(s.undo_status("a"), UndoStatus::None);
    s.answer_raw("a", json!("late"));
    assert_eq!(s.undo_status("a"), UndoStatus::Done);
}

#[test]
fn of_an_answer_and_a_timeout_at_the_same_moment_one_wins() {
    let graph = || {
        Graph::new()
            .step("a", &[], asks("x"))
            .timeout(10)
            .undo(asks("do undo"))
    };
    let mut answered = graph().run();
    answered.advance(Duration::from_millis(9_999));
    answered.answer_raw("a", json!(1));
    answered.advance(Duration::from_secs(10));
    assert_eq!(answered.status(), "completed");
    let mut timed_out = graph().run();
    timed_out.advance(Duration::from_secs(10));
    timed_out.answer_raw("a", json!(1));
    assert_eq!(timed_out.status(), "compensated");
    assert_eq!(timed_out.undo_status("a"), UndoStatus::Done);
}

#[test]
fn an_effect_that_runs_when_its_sibling_fails_settles_and_is_undone() {
    let mut s = Graph::new()
        .step("a", &[], asks("do a"))
        .undo(asks("do undo a"))
        .step("b", &[], asks("do b"))
        .start();
    s.script("do b", |_, _| Err(EffectError::permanent("no")));
    let mut once = false;
    s.script("do a", move |_, _| {
        once = !once;
        if once {
            Err(EffectError::transient("not yet"))
        } else {
            Ok(said(1))
        }
    });
    s.run();
    assert_eq!(s.undo_status("a"), UndoStatus::None);
    s.advance(Duration::from_secs(1));
    assert_eq!(s.status(), "compensated", "{}", s.history());
}

#[test]
fn what_some_of_many_requests_did_is_undone() {
    let mut s = Graph::new()
        .step("a", &[], asks_for(&["do x", "do y", "do z"]))
        .undo(asks("do undo"))
        .start();
    s.script("do y", |_, _| Err(EffectError::permanent("no")));
    s.run();
    assert_eq!(s.step_status("a"), StepStatus::Failed);
    assert_eq!(s.undo_status("a"), UndoStatus::Done, "{}", s.history());
    assert_eq!(s.status(), "compensated");
}

#[test]
fn signals_and_terminal_failures_turn_back() {
    let mut signalled = Graph::new()
        .step("a", &[], asks("do a"))
        .undo(asks("do undo"))
        .step("b", &["a"], asks("x"))
        .signal("stop", SignalAction::TriggersCompensation)
        .run();
    signalled.signal_raw("stop", json!(null));
    assert_eq!(signalled.status(), "compensated");
    assert_eq!(signalled.undo_status("a"), UndoStatus::Done);
    let failed = Graph::new()
        .step("a", &[], asks("do a"))
        .undo(asks("do undo"))
        .step("reject", &["a"], gives(1))
        .dead_end()
        .run();
    assert_eq!(failed.status(), "failed");
    assert_eq!(failed.undo_status("a"), UndoStatus::Done);
}

#[test]
fn an_operator_can_have_a_completed_saga_undone() {
    let mut s = Graph::new()
        .step("a", &[], asks("do a"))
        .undo(asks("do undo"))
        .goal()
        .run();
    assert_eq!(s.status(), "completed");
    s.cancel("too late");
    assert_eq!(s.status(), "completed");
    s.compensate("fraud");
    assert_eq!(s.undo_status("a"), UndoStatus::Done);
}

#[test]
fn forced_compensation_of_a_completed_saga() {
    let mut s = Graph::new()
        .step("a", &[], asks("do a"))
        .undo(asks("do undo"))
        .goal()
        .run();
    s.compensate("fraud");
    assert_eq!(s.status(), "compensated");
    assert_eq!(s.undo_status("a"), UndoStatus::Done);
    assert!(place(&s, "ended: completed") < place(&s, "ended: compensated"));
}
