//! What a decide, a gate or an undo can ask for: [`State`], [`Trigger`], [`Output`], [`Dep`], [`Cause`].

use std::any::{TypeId, type_name};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::history::Cause;
use crate::saga::Saga;
use crate::topology::{Context, Deps, Fault};

/// The instance's state, as it was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<T>(pub T);

/// What set the instance off: the event of [`start_on`](crate::SagaBuilder::start_on), or what
/// [`Start::trigger`](crate::Start::trigger) was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger<T>(pub T);

/// The output of an earlier step, found by its type; in an undo, first of all the output of the step to be undone.
///
/// The step must come before on every way to here. If it may have been skipped, may have had nothing to do or may not
/// have got that far, ask for `Option<Output<T>>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output<T>(pub T);

/// Something that [`SagaBuilder::dep`](crate::SagaBuilder::dep) was given, found by its type. In a decide only for
/// settings: what it reads must not differ from one try to the next.
#[derive(Debug)]
pub struct Dep<T>(pub Arc<T>);

impl<T> Clone for Dep<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The place of a function that decides: a step, or one of its gates.
#[derive(Clone, Copy, Debug)]
pub struct InStep;

/// The place of a function that decides how to undo a step.
#[derive(Clone, Copy, Debug)]
pub struct InUndo;

/// What a function in the place `P` of saga `S` can have as a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a function here can ask for",
    label = "no parameter of a decide",
    note = "there are `State<S::State>`, `Trigger<T>`, `Output<T>`, `Option<Output<T>>` and `Dep<T>`; in an undo also `Cause`",
    note = "`Req<R>` and `IdempotencyKey` are for effects"
)]
#[allow(private_bounds)] // sealed
pub trait Extract<S, P>: Read<S, P> {}

pub(crate) trait Read<S, P>: Sized {
    fn requires(all: &mut Vec<Requirement>);
    fn read(context: &Context<'_>) -> Result<Self, Fault>;
}

/// Something without which a function cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    Output(Type),
    OptionalOutput(Type),
    Trigger(Type),
    Dep(Type),
}

/// A type, for comparison and for people.
#[derive(Clone, Copy, Debug, Eq)]
pub(crate) struct Type {
    pub(crate) id: TypeId,
    pub(crate) name: &'static str,
}

impl PartialEq for Type {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Type {
    pub(crate) fn of<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&short_name(self.name))
    }
}

/// A type's name without the modules that it is in.
pub(crate) fn short_name(full: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    for c in full.chars() {
        if c == ':' {
            word.clear();
        } else if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            short.push_str(&word);
            short.push(c);
            word.clear();
        }
    }
    short + &word
}

impl<S: Saga<State = T>, P, T: DeserializeOwned> Extract<S, P> for State<T> {}
impl<S: Saga<State = T>, P, T: DeserializeOwned> Read<S, P> for State<T> {
    fn requires(_: &mut Vec<Requirement>) {}

    fn read(context: &Context<'_>) -> Result<Self, Fault> {
        decode::<S::State>("the state", context.state).map(Self)
    }
}

impl<S, P, T: DeserializeOwned + 'static> Extract<S, P> for Trigger<T> {}
impl<S, P, T: DeserializeOwned + 'static> Read<S, P> for Trigger<T> {
    fn requires(all: &mut Vec<Requirement>) {
        all.push(Requirement::Trigger(Type::of::<T>()));
    }

    fn read(context: &Context<'_>) -> Result<Self, Fault> {
        let trigger = context.trigger.ok_or_else(|| {
            let name = Type::of::<T>();
            Fault(format!(
                "this instance was started without a trigger: give the {name} to Start::trigger"
            ))
        })?;
        decode("the trigger", trigger).map(Self)
    }
}

impl<S, P, T: DeserializeOwned + 'static> Extract<S, P> for Output<T> {}
impl<S, P, T: DeserializeOwned + 'static> Read<S, P> for Output<T> {
    fn requires(all: &mut Vec<Requirement>) {
        all.push(Requirement::Output(Type::of::<T>()));
    }

    fn read(context: &Context<'_>) -> Result<Self, Fault> {
        let name = Type::of::<T>();
        let missing = |why: &str| {
            Fault(format!(
                "there is no output {name}{why}: ask for Option<Output<{name}>>"
            ))
        };
        let output = context.output(name.id).ok_or_else(|| missing(""))?;
        match decode(&format!("output {name}"), output) {
            Err(_) if output.is_null() => Err(missing(", the step had nothing to do")),
            decoded => decoded.map(Self),
        }
    }
}

impl<S, P, T: DeserializeOwned + 'static> Extract<S, P> for Option<Output<T>> {}
impl<S, P, T: DeserializeOwned + 'static> Read<S, P> for Option<Output<T>> {
    fn requires(all: &mut Vec<Requirement>) {
        all.push(Requirement::OptionalOutput(Type::of::<T>()));
    }

    fn read(context: &Context<'_>) -> Result<Self, Fault> {
        let name = Type::of::<T>();
        let Some(output) = context.output(name.id) else {
            return Ok(None);
        };
        match decode(&format!("output {name}"), output) {
            Err(_) if output.is_null() => Ok(None),
            decoded => decoded.map(|output| Some(Output(output))),
        }
    }
}

impl<S, P, T: Send + Sync + 'static> Extract<S, P> for Dep<T> {}
impl<S, P, T: Send + Sync + 'static> Read<S, P> for Dep<T> {
    fn requires(all: &mut Vec<Requirement>) {
        all.push(Requirement::Dep(Type::of::<T>()));
    }

    fn read(context: &Context<'_>) -> Result<Self, Fault> {
        find_dep(context.deps()).map_err(Fault).map(Self)
    }
}

impl<S> Extract<S, InUndo> for Cause {}
impl<S> Read<S, InUndo> for Cause {
    fn requires(_: &mut Vec<Requirement>) {}

    fn read(context: &Context<'_>) -> Result<Self, Fault> {
        context
            .cause
            .cloned()
            .ok_or_else(|| Fault("an undo without a cause".to_owned()))
    }
}

pub(crate) fn find_dep<T: Send + Sync + 'static>(deps: &Deps) -> Result<Arc<T>, String> {
    deps.get().ok_or_else(|| {
        let name = Type::of::<T>();
        format!("there is no dependency {name}: give it to SagaBuilder::dep")
    })
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T, Fault> {
    T::deserialize(value).map_err(|e| {
        let name = short_name(type_name::<T>());
        Fault(format!("{what} cannot be read as {name}{}", why_of(&e)))
    })
}

/// Why JSON does not fit, as far as that says nothing of what is in it: messages end up in logs and views.
pub(crate) fn why_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        let field = text
            .split_once(" at ")
            .map_or(text.as_str(), |(field, _)| field);
        return format!(" ({field})");
    }
    match text.split_once(": ") {
        Some((what @ ("invalid type" | "invalid length"), rest)) => rest
            .rsplit_once(", expected ")
            .map(|(_, expected)| expected.split_once(" at ").map_or(expected, |(e, _)| e))
            .map_or_else(String::new, |expected| {
                format!(" ({what}, expected {expected})")
            }),
        _ => String::new(),
    }
}
