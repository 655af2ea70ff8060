//! Steps as they are declared: by names, not yet checked.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use mire_client::EventKind;

use crate::child;
use crate::decide::{Decide, Predicate, START_SAGA, function_name};
use crate::extract::{Requirement, Type};
use crate::handler::EffectDraft;
use crate::response::{Answers, accepting, is_called};
use crate::retry::RetryPolicy;
use crate::topology::{Context, DecideFn, Gate, RespondFn, Terminal};

pub(crate) struct StepDraft {
    pub(crate) name: String,
    pub(crate) after: Vec<String>,
    pub(crate) after_any_of: Vec<String>,
    pub(crate) gates: Vec<GateDraft>,
    pub(crate) terminals: Vec<Terminal>,
    pub(crate) action: ActionDraft,
    pub(crate) undo: Option<UndoDraft>,
    pub(crate) output: Type,
}

pub(crate) struct GateDraft {
    pub(crate) gate: Gate,
    pub(crate) requires: Vec<Requirement>,
}

pub(crate) struct UndoDraft {
    pub(crate) action: ActionDraft,
    pub(crate) even_if_active: bool,
}

pub(crate) struct ActionDraft {
    pub(crate) decide: DecideFn,
    pub(crate) requires: Vec<Requirement>,
    pub(crate) emits: Emits,
    pub(crate) effects: Vec<EffectDraft>,
    pub(crate) respond: RespondFn,
    /// None: every answer is fine.
    pub(crate) answers: Option<Answers>,
    pub(crate) many: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: RetryPolicy,
}

/// Which requests a decide can make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Emits {
    Nothing,
    Anything,
    These(Vec<&'static EventKind>),
    /// The start of an instance of that saga.
    Start(&'static str),
}

impl Emits {
    pub(crate) fn these(kinds: &'static [EventKind]) -> Self {
        Self::These(kinds.iter().collect())
    }

    /// Adds what a plain `Emit` is said to make.
    pub(crate) fn add(&mut self, kinds: &'static [EventKind]) {
        match self {
            Self::These(known) => known.extend(kinds),
            Self::Nothing | Self::Anything | Self::Start(_) => *self = Self::these(kinds),
        }
    }

    pub(crate) fn may_be(&self, kind: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anything => true,
            Self::These(kinds) => kinds.iter().any(|known| is_called(known, kind)),
            Self::Start(_) => kind == START_SAGA,
        }
    }
}

impl ActionDraft {
    pub(crate) fn new<S, P, Args, H>(decide: H) -> Self
    where
        H: Decide<S, P, Args>,
    {
        let mut requires = Vec::new();
        H::requires(&mut requires);
        let decide = Arc::new(move |context: &Context<'_>| decide.decide(context));
        let mut action = Self::of(decide, requires, H::emits());
        if let Emits::Start(_) = action.emits {
            action.respond = Arc::new(|response| child::ended(response, false));
        }
        action
    }

    pub(crate) fn of(decide: DecideFn, requires: Vec<Requirement>, emits: Emits) -> Self {
        Self {
            decide,
            requires,
            emits,
            effects: Vec::new(),
            respond: accepting(),
            answers: None,
            many: false,
            timeout: None,
            retry: RetryPolicy::default(),
        }
    }
}

impl GateDraft {
    pub(crate) fn new<S, Args, H: Predicate<S, Args>>(open: H) -> Self {
        let mut requires = Vec::new();
        H::requires(&mut requires);
        let label = function_name::<H>().unwrap_or_else(|| about(&requires));
        Self {
            gate: Gate {
                label,
                open: Arc::new(move |context| open.is_open(context)),
            },
            requires,
        }
    }
}

/// What a closure decides by.
fn about(requires: &[Requirement]) -> String {
    let types = requires.iter().map(|requirement| match requirement {
        Requirement::Output(t)
        | Requirement::OptionalOutput(t)
        | Requirement::Trigger(t)
        | Requirement::Dep(t) => t.to_string(),
    });
    let types: Vec<_> = types.collect();
    if types.is_empty() {
        "state".to_owned()
    } else {
        types.join(", ")
    }
}

/// The name of a step, or of several.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no steps",
    note = "give one name, or an array, slice or Vec of names"
)]
#[allow(private_bounds)] // sealed
pub trait StepNames: IntoNames {}

pub(crate) trait IntoNames {
    fn into_names(self) -> Vec<String>;
}

impl StepNames for &str {}
impl IntoNames for &str {
    fn into_names(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl StepNames for String {}
impl IntoNames for String {
    fn into_names(self) -> Vec<String> {
        vec![self]
    }
}

impl<T: Into<String>, const N: usize> StepNames for [T; N] {}
impl<T: Into<String>, const N: usize> IntoNames for [T; N] {
    fn into_names(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<String>> StepNames for Vec<T> {}
impl<T: Into<String>> IntoNames for Vec<T> {
    fn into_names(self) -> Vec<String> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Clone + Into<String>> StepNames for &[T] {}
impl<T: Clone + Into<String>> IntoNames for &[T] {
    fn into_names(self) -> Vec<String> {
        self.iter().cloned().map(Into::into).collect()
    }
}

/// Keeps the types of a step or undo that is being declared.
pub(crate) type Of<S, K> = PhantomData<fn() -> (S, K)>;
