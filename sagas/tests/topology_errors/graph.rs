//! The shape of the graph, and names.

use mire_sagas::{Dep, Output, Saga, SagaBuilder, TopologyError, task};

use crate::kit::*;

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

/// Diamonds on top of each other, each from one step over two to one, on two alternatives that give an `A`: 2^60 ways.
#[test]
fn a_tall_graph_is_checked_at_once() {
    let diamond = |saga: SagaBuilder<Any>, n: usize| {
        let below = n.to_string();
        let [left, right] = ["l", "r"].map(|side| format!("{side}{n}"));
        saga.step(&left, task(|| ()).after(&*below))
            .step(&right, task(|| ()).after(&*below))
            .step(
                (n + 1).to_string(),
                task(|| ()).after_any_of([&*left, &*right]),
            )
    };
    let bottom = good()
        .step("a", task(a))
        .step("or", task(a))
        .step("0", task(|| ()).after_any_of(["a", "or"]));
    let ladder = (0..60).fold(bottom, diamond);
    let end = task(|Output(_): Output<A>| ()).after("60");
    assert_errors(ladder.step("end", end.terminal_success()), &[]);
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
