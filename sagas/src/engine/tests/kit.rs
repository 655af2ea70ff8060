//! Steps of a few words.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::retry::RetryPolicy;
use crate::simulate::Simulation;
use crate::topology::{
    Action, Decision, Deps, Gate, Request, Response, Signal, SignalAction, Step, Terminal,
    Topology, Undo,
};

/// An action that asks for `kind`: in process when it begins with "do", else from outside.
pub(super) fn asks(kind: &str) -> Action {
    let mut effects = HashMap::new();
    if kind.starts_with("do") {
        let never: crate::topology::EffectFn =
            Arc::new(|_| Box::pin(async { unreachable!("a simulation calls no effect") }));
        effects.insert(kind.to_owned(), never);
    }
    let request = Request {
        kind: kind.to_owned(),
        data: Value::Null,
    };
    Action {
        decide: Arc::new(move |_| {
            Ok(Decision::Emit {
                requests: vec![request.clone()],
                timeout: None,
            })
        }),
        effects,
        respond: Arc::new(|response| Ok(response.data.clone())),
        many: false,
        timeout: None,
        retry: RetryPolicy::never(),
    }
}

/// An action that asks for each of these.
pub(super) fn asks_for(kinds: &'static [&'static str]) -> Action {
    let mut action = asks(kinds[0]);
    for kind in kinds {
        action.effects.extend(asks(kind).effects);
    }
    action.many = true;
    action.decide = Arc::new(|_| {
        let requests = kinds.iter().map(|kind| Request {
            kind: (*kind).to_owned(),
            data: Value::Null,
        });
        Ok(Decision::Emit {
            requests: requests.collect(),
            timeout: None,
        })
    });
    action
}

pub(super) fn said(data: impl Into<Value>) -> Response {
    Response {
        kind: None,
        data: data.into(),
    }
}

pub(super) fn gives(value: i64) -> Action {
    Action {
        decide: Arc::new(move |_| Ok(Decision::Value(json!(value)))),
        ..asks("nothing")
    }
}

pub(super) fn panics() -> Action {
    Action {
        decide: Arc::new(|_| panic!("no luck")),
        ..asks("nothing")
    }
}

/// A topology under construction.
pub(super) struct Graph {
    steps: Vec<Step>,
    signals: Vec<Signal>,
}

impl Graph {
    pub(super) fn new() -> Self {
        Self {
            steps: Vec::new(),
            signals: Vec::new(),
        }
    }

    fn no(&self, name: &str) -> usize {
        let found = self.steps.iter().position(|step| step.name == name);
        found.unwrap_or_else(|| panic!("no step {name}"))
    }

    pub(super) fn step(mut self, name: &str, after: &[&str], action: Action) -> Self {
        self.steps.push(Step {
            name: name.to_owned(),
            after: after.iter().map(|name| self.no(name)).collect(),
            after_any_of: Vec::new(),
            gates: Vec::new(),
            terminal: None,
            action,
            undo: None,
            output_type: TypeId::of::<()>(),
            output_name: "()",
        });
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Step)) -> Self {
        change(self.steps.last_mut().expect("a step"));
        self
    }

    pub(super) fn undo(self, action: Action) -> Self {
        self.last(|step| {
            step.undo = Some(Undo {
                action,
                even_if_active: false,
            });
        })
    }

    pub(super) fn even_if_active(self) -> Self {
        self.last(|step| step.undo.as_mut().expect("an undo").even_if_active = true)
    }

    pub(super) fn any_of(self, names: &[&str]) -> Self {
        let before: Vec<_> = names.iter().map(|name| self.no(name)).collect();
        self.last(|step| step.after_any_of = before)
    }

    pub(super) fn gated(self, open: bool) -> Self {
        self.last(|step| {
            step.gates.push(Gate {
                label: "the gate is shut".to_owned(),
                open: Arc::new(move |_| Ok(open)),
            });
        })
    }

    pub(super) fn timeout(self, seconds: u64) -> Self {
        self.last(|step| step.action.timeout = Some(Duration::from_secs(seconds)))
    }

    pub(super) fn retry(self, retry: RetryPolicy) -> Self {
        self.last(|step| step.action.retry = retry)
    }

    pub(super) fn goal(self) -> Self {
        self.last(|step| step.terminal = Some(Terminal::Success))
    }

    pub(super) fn dead_end(self) -> Self {
        self.last(|step| step.terminal = Some(Terminal::Failure))
    }

    pub(super) fn signal(mut self, name: &str, does: SignalAction) -> Self {
        self.signals.push(Signal {
            name: name.to_owned(),
            does,
        });
        self
    }

    pub(super) fn topology(self) -> Arc<Topology> {
        Arc::new(Topology {
            name: "trip",
            version: 1,
            steps: self.steps,
            signals: self.signals,
            deps: Deps::default(),
        })
    }

    /// An instance whose effects all succeed, driven as far as it goes.
    pub(super) fn run(self) -> Simulation {
        let mut simulation = self.start();
        simulation.run();
        simulation
    }

    pub(super) fn start(self) -> Simulation {
        let topology = self.topology();
        let mut simulation = Simulation::of(Arc::clone(&topology), "1", Value::Null, None);
        for step in &topology.steps {
            let undo = step.undo.iter().map(|undo| &undo.action);
            for kind in undo.chain([&step.action]).flat_map(|a| a.effects.keys()) {
                simulation.script(kind, |_, _| Ok(said("done")));
            }
        }
        simulation
    }
}

/// Where in the history a line stands.
pub(super) fn place(simulation: &Simulation, line: &str) -> usize {
    let history = simulation.history();
    let found = history.lines().position(|l| l.ends_with(line));
    found.unwrap_or_else(|| panic!("no \"{line}\" in\n{history}"))
}

pub(super) fn count(simulation: &Simulation, line: &str) -> usize {
    let history = simulation.history();
    history.lines().filter(|l| l.contains(line)).count()
}
