//! What functions ask for.

use mire_sagas::{
    ChildEnded, Comp, Dep, Gives, Output, Req, Start, State, Task, TopologyError, Trigger, child,
    comp, for_each, task,
};

use crate::kit::*;

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
    let with = |end: Task<Any, Gives<()>>| {
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
    let with = |undo: Comp<Any, Gives<()>>| {
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
    let saga = |step: Task<Any, Gives<()>>| {
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
