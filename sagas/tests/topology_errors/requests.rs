//! Requests, signals, and who sees to them.

use mire_sagas::{Data, Emit, IdempotencyKey, Req, TopologyError, comp, task};

use crate::kit::*;

#[test]
fn a_request_that_nobody_sees_to() {
    let saga = || good().step("hold", task(hold).terminal_success());
    let unhandled = TopologyError::UnhandledRequest {
        who: "step \"hold\"".into(),
        request: "hold".into(),
    };
    assert_errors(saga(), std::slice::from_ref(&unhandled));
    assert_errors(saga().allow_unhandled::<Hold>(), &[]);
    assert_errors(saga().effect(do_hold), &[]);
    // A plain Emit says nothing, unless it is told to.
    let plain = || task(|| -> Emit { Emit::event(Hold {}) }).terminal_success();
    assert_errors(good().step("hold", plain()), &[]);
    assert_errors(good().step("hold", plain().emits::<Hold>()), &[unhandled]);
    let undo = comp(|| -> Emit<Release> { Emit::event(Release {}) });
    let unhandled = TopologyError::UnhandledRequest {
        who: "the undo of step \"end\"".into(),
        request: "release".into(),
    };
    assert_errors(good().step("end", last().compensate(undo)), &[unhandled]);
}

#[test]
fn two_effects_for_one_request() {
    let saga = good().effect(do_hold).step(
        "hold",
        task(hold)
            .effect(do_hold)
            .effect(do_hold)
            .terminal_success(),
    );
    let duplicate = TopologyError::DuplicateEffect {
        who: "step \"hold\"".into(),
        request: "hold".into(),
    };
    assert_errors(saga, &[duplicate]);
}

#[test]
fn an_effect_that_is_never_called() {
    async fn pay(Req(_): Req<Pay>) {}
    let unused = |who: &str| TopologyError::UnusedEffect {
        who: who.into(),
        effect: "pay".into(),
    };
    let saga = good().step(
        "hold",
        task(hold).effect(do_hold).effect(pay).terminal_success(),
    );
    assert_errors(saga, &[unused("step \"hold\"")]);
    assert_errors(
        good().step("end", last()).effect(pay),
        &[unused("the saga")],
    );
}

#[test]
fn an_effect_of_which_nobody_knows_what_it_is_for() {
    async fn vague(_: IdempotencyKey) {}
    let unclear = TopologyError::UnclearEffect {
        who: "step \"hold\"".into(),
        effect: "vague".into(),
        requests: 0,
    };
    let plain = task(|| -> Emit { Emit::event(Hold {}) });
    let saga = good().step("hold", plain.effect(vague).terminal_success());
    assert_errors(saga, &[unclear]);
    async fn greedy(_: Req<Hold>, _: Req<Pay>) -> Held {
        Held {}
    }
    let unclear = |effect: &str, requests| TopologyError::UnclearEffect {
        who: "the saga".into(),
        effect: effect.into(),
        requests,
    };
    let saga = good().effect(vague).effect(greedy).step("end", last());
    assert_errors(saga, &[unclear("vague", 0), unclear("greedy", 2)]);
    // The step's type says what it is for.
    assert_errors(
        good().step("hold", task(hold).effect(vague).terminal_success()),
        &[],
    );
}

#[test]
fn an_effect_whose_answer_the_step_cannot_read() {
    async fn as_data(Req(_): Req<Hold>) -> Data<u8> {
        Data(1)
    }
    let mismatch = |effect: &str, answer: &str| TopologyError::ResponseMismatch {
        who: "step \"hold\"".into(),
        effect: effect.into(),
        answer: answer.into(),
    };
    let hold = || task(hold).on_response(|_: Paid| A {}).terminal_success();
    let saga = good().step("hold", hold().effect(do_hold));
    assert_errors(saga, &[mismatch("do_hold", "\"held\"")]);
    assert_errors(
        good().step("hold", hold()).effect(as_data),
        &[mismatch("as_data", "data of type u8")],
    );
}

#[test]
fn signals_that_lead_nowhere() {
    let wait = || task(hold).on_response(|_: Held| A {}).terminal_success();
    let saga = good()
        .allow_unhandled::<Hold>()
        .step("value", task(b))
        .step("wait", wait().after("value"))
        .signal_named("held")
        .routes_to_step("wait")
        .signal_named("x")
        .routes_to_step("nowhere")
        .signal_named("y")
        .routes_to_step("value")
        .signal_named("z")
        .routes_to_step("wait")
        .signal::<Cancel>()
        .triggers_compensation()
        .signal_named("cancel")
        .triggers_compensation();
    let (x, y, z) = ("x".to_owned(), "y".to_owned(), "z".to_owned());
    assert_errors(
        saga,
        &[
            TopologyError::UnknownSignalStep {
                signal: x,
                step: "nowhere".into(),
            },
            TopologyError::SignalToValue {
                signal: y,
                step: "value".into(),
            },
            TopologyError::SignalMismatch {
                signal: z,
                step: "wait".into(),
            },
            TopologyError::DuplicateSignal {
                signal: "cancel".into(),
            },
        ],
    );
}

#[test]
fn two_steps_that_wait_for_the_same_answer() {
    let wait = || task(hold).on_response(|_: Held| ());
    let ambiguous = TopologyError::AmbiguousAwait {
        first: "one".into(),
        second: "two".into(),
        answer: "held".into(),
    };
    let together = good()
        .step("one", wait())
        .step("two", wait())
        .step("end", last().after(["one", "two"]));
    assert_errors(
        together.allow_unhandled::<Hold>(),
        std::slice::from_ref(&ambiguous),
    );
    let in_a_row = good()
        .step("one", wait())
        .step("two", wait().after("one").terminal_success());
    assert_errors(in_a_row.allow_unhandled::<Hold>(), &[]);
    let in_process = good()
        .step("one", wait())
        .step("two", wait())
        .step("end", last().after(["one", "two"]));
    assert_errors(in_process.effect(do_hold), &[]);
    // "two" may begin while "one" is still waiting.
    let overtaking = good().step("quick", task(b)).step("one", wait()).step(
        "two",
        wait().after_any_of(["one", "quick"]).terminal_success(),
    );
    assert_errors(
        overtaking.allow_unhandled::<Hold>(),
        std::slice::from_ref(&ambiguous),
    );
    let by_signal = good()
        .allow_unhandled::<Hold>()
        .step("one", wait())
        .step("two", wait().after("one").terminal_success())
        .signal::<Held>()
        .routes_to_step("one")
        .signal::<Held>()
        .routes_to_step("two");
    assert_errors(by_signal, &[ambiguous]);
}
