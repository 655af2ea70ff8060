//! Every mistake that a topology can have is found when it is built, and all of them at once.
#![allow(clippy::unwrap_used)]

use mire_client::EventData;
use mire_sagas::{
    ChildEnded, Data, Dep, Emit, IdempotencyKey, Output, Req, Saga, SagaBuilder, Start, State,
    Task, TopologyError, TopologyErrors, Trigger, child, comp, for_each, task,
};
use serde::{Deserialize, Serialize};

macro_rules! events {
    ($($name:ident $kind:literal),*) => {$(
        #[derive(Debug, Default, Clone, Serialize, Deserialize, EventData)]
        #[event_data(event_type = $kind)]
        struct $name {}
    )*};
}
events!(Hold "hold", Held "held", Release "release", Pay "pay", Paid "paid", Cancel "cancel");

macro_rules! outputs {
    ($($name:ident)*) => {$(
        #[derive(Debug, Default, Clone, Serialize, Deserialize)]
        struct $name {}
    )*};
}
outputs!(A B C);

struct Any;
impl Saga for Any {
    type State = String;
    const NAME: &'static str = "any";
    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
        saga
    }
}

fn errors(saga: SagaBuilder<Any>) -> TopologyErrors {
    saga.build().unwrap_err()
}

/// Exactly these mistakes.
#[track_caller]
fn assert_errors(saga: SagaBuilder<Any>, expected: &[TopologyError]) {
    let found = saga
        .build()
        .err()
        .map_or(Vec::new(), |e| e.iter().cloned().collect());
    assert_eq!(found, expected, "found {found:#?}");
}

fn good() -> SagaBuilder<Any> {
    SagaBuilder::new()
}

fn a() -> A {
    A {}
}
fn b() -> B {
    B {}
}
fn end<T>(_: T) {}
fn hold() -> Emit<Hold> {
    Emit::event(Hold {})
}
async fn do_hold(Req(_): Req<Hold>) -> Held {
    Held {}
}
fn last() -> Task<Any, mire_sagas::Gives<()>> {
    task(|| ()).terminal_success()
}

#[test]
fn a_good_topology_is_built() {
    let saga = good()
        .step("a", task(a))
        .step("b", task(|Output(_): Output<A>| B {}).after("a"))
        .step(
            "c",
            task(|Output(_): Output<B>, Output(_): Output<A>| ())
                .after("b")
                .terminal_success(),
        );
    assert_errors(saga, &[]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let saga = good()
        .step("a", task(a).after("nowhere"))
        .step("a", task(|Dep(_): Dep<u32>| B {}).after("a"));
    let errors = errors(saga);
    assert!(errors.len() >= 5, "{errors}");
    assert!(errors.contains(&TopologyError::MissingStart));
    assert!(errors.contains(&TopologyError::MissingTerminal));
    assert!(errors.contains(&TopologyError::DuplicateStep { step: "a".into() }));
    assert!(
        errors
            .to_string()
            .starts_with("saga \"any\" cannot run:\n- ")
    );
}

#[test]
fn no_steps_at_all() {
    assert_errors(
        good(),
        &[TopologyError::MissingStart, TopologyError::MissingTerminal],
    );
}

#[test]
fn a_failure_alone_is_no_end() {
    let saga = good().step("a", task(a).terminal_failure());
    assert_errors(saga, &[TopologyError::MissingTerminal]);
}

#[test]
fn two_ends_of_one_step() {
    let saga = good().step("a", task(a).terminal_failure().terminal_success());
    assert_errors(
        saga,
        &[TopologyError::ConflictingTerminal { step: "a".into() }],
    );
}

#[test]
fn a_step_that_does_not_exist() {
    let saga = good()
        .step("a", task(a))
        .step("end", last().after(["a", "b"]));
    let unknown = TopologyError::UnknownStep {
        step: "end".into(),
        reference: "b".into(),
    };
    assert_errors(saga, &[unknown]);
}

#[test]
fn a_step_after_itself() {
    let saga = good()
        .step("a", task(a))
        .step("end", last().after(["a", "end"]));
    assert_errors(saga, &[TopologyError::SelfReference { step: "end".into() }]);
}

#[test]
fn steps_that_wait_for_each_other() {
    let saga = good()
        .step("start", task(|| ()))
        .step("a", task(a).after(["start", "c"]))
        .step("b", task(b).after("a"))
        .step("c", task(|| C {}).after_any_of(["b", "start"]))
        .step("end", last().after("c"));
    let found = errors(saga);
    assert_eq!(found.len(), 1, "{found}");
    let message = found.to_string();
    assert!(message.contains("a -> b -> c -> a"), "{message}");
}

#[test]
fn what_comes_after_the_end_is_never_reached() {
    let saga = good()
        .step("a", task(a).terminal_success())
        .step("b", task(b).after("a"))
        .step("c", last().after("b"));
    let (b, c, a) = ("b".to_owned(), "c".to_owned(), "a".to_owned());
    assert_errors(
        saga,
        &[
            TopologyError::UnreachableStep {
                step: b,
                behind: a.clone(),
            },
            TopologyError::UnreachableTerminal { step: c, behind: a },
        ],
    );
}

#[test]
fn one_way_around_the_end_is_enough() {
    let saga = good()
        .step("a", task(a).terminal_failure())
        .step("b", task(b))
        .step("c", last().after_any_of(["a", "b"]));
    assert_errors(saga, &[]);
}

#[test]
fn an_output_that_nobody_gives() {
    let missing = |who: &str, givers: &[&str]| TopologyError::MissingOutput {
        who: who.into(),
        output: "A".into(),
        givers: givers.iter().map(ToString::to_string).collect(),
    };
    let saga = good().step("end", task(end::<Output<A>>).terminal_success());
    assert_errors(saga, &[missing("step \"end\"", &[])]);
    // A sibling may or may not have completed.
    let saga = good()
        .step("a", task(a))
        .step("end", task(end::<Option<Output<A>>>).terminal_success());
    assert_errors(saga, &[missing("step \"end\"", &["a"])]);
    let saga = good().step("end", last().gated_by(|Output(_): Output<A>| true));
    assert_errors(saga, &[missing("a gate of step \"end\"", &[])]);
    let saga = good().step("end", last().compensate(comp(end::<Output<A>>)));
    assert_errors(saga, &[missing("the undo of step \"end\"", &[])]);
}

#[test]
fn an_output_that_not_every_way_gives() {
    let with = |end: Task<Any, mire_sagas::Gives<()>>| {
        good()
            .step("a", task(a))
            .step("b", task(b))
            .step("end", end.after_any_of(["a", "b"]).terminal_success())
    };
    let uncertain = TopologyError::UncertainOutput {
        who: "step \"end\"".into(),
        output: "A".into(),
        why: "not every way leads through a step that gives it",
    };
    assert_errors(with(task(end::<Output<A>>)), &[uncertain]);
    assert_errors(with(task(end::<Option<Output<A>>>)), &[]);
}

#[test]
fn an_output_that_every_way_gives() {
    let saga = good()
        .step("a1", task(a))
        .step("a2", task(a))
        .step(
            "join",
            task(|Output(_): Output<A>| ()).after_any_of(["a1", "a2"]),
        )
        .step(
            "end",
            task(end::<Output<A>>).after("join").terminal_success(),
        );
    assert_errors(saga, &[]);
}

#[test]
fn an_output_that_two_steps_give() {
    let ambiguous = |givers: [&str; 2]| TopologyError::AmbiguousOutput {
        who: "step \"end\"".into(),
        output: "A".into(),
        givers: givers.map(String::from).to_vec(),
    };
    let end = || task(end::<Output<A>>).terminal_success();
    let side_by_side = good()
        .step("a1", task(a))
        .step("a2", task(a))
        .step("end", end().after(["a1", "a2"]));
    assert_errors(side_by_side, &[ambiguous(["a1", "a2"])]);
    let in_a_row = good()
        .step("a1", task(a))
        .step("a2", task(a).after("a1"))
        .step("end", end().after("a2"));
    assert_errors(in_a_row, &[ambiguous(["a1", "a2"])]);
    let joined = good()
        .step("a1", task(a))
        .step("b", task(b).after("a1"))
        .step("a2", task(a))
        .step("c", task(|| C {}).after_any_of(["b", "a2"]))
        .step("end", end().after(["c", "a2"]));
    assert_errors(joined, &[ambiguous(["a1", "a2"])]);
}

#[test]
fn an_undo_has_its_own_output_first() {
    let saga = good()
        .step("a1", task(a))
        .step(
            "a2",
            task(|| A {}).after("a1").compensate(comp(end::<Output<A>>)),
        )
        .step("end", last().after("a2"));
    assert_errors(saga, &[]);
}

#[test]
fn an_undo_even_if_active_cannot_count_on_its_own_output() {
    let with = |undo: mire_sagas::Comp<Any, mire_sagas::Gives<()>>| {
        let hold = task(hold).effect(do_hold).on_response(|_: Held| A {});
        good().step(
            "a",
            hold.compensate(undo.even_if_active()).terminal_success(),
        )
    };
    let uncertain = TopologyError::UncertainOutput {
        who: "the undo of step \"a\"".into(),
        output: "A".into(),
        why: "it undoes even if active",
    };
    assert_errors(with(comp(end::<Output<A>>)), &[uncertain]);
    assert_errors(with(comp(end::<Option<Output<A>>>)), &[]);
}

#[test]
fn a_dependency_that_nobody_gave() {
    async fn with_dep(Req(_): Req<Hold>, Dep(_): Dep<u64>) -> Held {
        Held {}
    }
    let saga = || {
        good().step("a", task(|Dep(_): Dep<u32>| ())).step(
            "hold",
            task(hold).effect(with_dep).after("a").terminal_success(),
        )
    };
    let missing = |who: &str, dep: &str| TopologyError::MissingDep {
        who: who.into(),
        dep: dep.into(),
    };
    assert_errors(
        saga(),
        &[
            missing("step \"a\"", "u32"),
            missing("effect with_dep of step \"hold\"", "u64"),
        ],
    );
    assert_errors(saga().dep(1_u32).dep(1_u64), &[]);
}

#[test]
fn a_trigger_of_another_type() {
    let saga = |step: Task<Any, mire_sagas::Gives<()>>| {
        good()
            .start_on_event::<Paid>(|_, from| Some(Start::new(from.id(), String::new())))
            .step("end", step.terminal_success())
    };
    let wrong = TopologyError::WrongTrigger {
        who: "step \"end\"".into(),
        trigger: "Held".into(),
        event: "Paid".into(),
    };
    assert_errors(saga(task(end::<Trigger<Held>>)), &[wrong]);
    assert_errors(saga(task(end::<Trigger<Paid>>)), &[]);
}

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
    assert_errors(overtaking.allow_unhandled::<Hold>(), &[ambiguous.clone()]);
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

#[test]
fn names_that_cannot_be_stored() {
    struct Bad;
    impl Saga for Bad {
        type State = ();
        const NAME: &'static str = "bad-name";
        const VERSION: i32 = 0;
        fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
            let long = "x".repeat(201);
            saga.step("", task(|| ()))
                .step("a/b", task(|| ()))
                .step("a b", task(|| ()))
                .step("$a", task(|| ()))
                .step(long, task(|| ()).terminal_success())
                .signal_named("")
                .triggers_compensation()
        }
    }
    let errors = Bad::topology().unwrap_err();
    let names = errors.iter().filter_map(|error| match error {
        TopologyError::BadName { name, .. } => Some(name.get(..3.min(name.len())).unwrap_or(name)),
        _ => None,
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["bad", "", "a/b", "a b", "$a", "xxx", ""]
    );
    assert!(errors.contains(&TopologyError::BadVersion { version: 0 }));
    assert_eq!(errors.len(), 8);
}

#[test]
fn fan_outs_and_children_give_outputs() {
    fn start_child(State(name): State<String>) -> Start<Any> {
        Start::new(name, String::new())
    }
    let saga = good()
        .effect(do_hold)
        .step(
            "holds",
            for_each(
                |State(s): State<String>| s.chars().collect::<Vec<_>>(),
                |_| Hold {},
            )
            .on_each_response(|_: Held| A {}),
        )
        .step("child", child(start_child).after("holds"))
        .step("mapped", child(start_child).on_end(|_| B {}).after("child"))
        .step(
            "end",
            task(
                |Output(_): Output<Vec<A>>, Output(_): Output<ChildEnded>, Output(_): Output<B>| (),
            )
            .after("mapped")
            .terminal_success(),
        );
    assert_errors(saga, &[]);
}
