//! [`Decide`]: synchronous functions that decide what a step does. [`Predicate`]: those that open a gate.

use std::any::type_name;
use std::marker::PhantomData;

use serde::Serialize;

use crate::child::ChildEnded;
use crate::emit::{Emit, Requests};
use crate::extract::{Extract, InStep, Requirement, Type, short_name};
use crate::saga::{Saga, Start};
use crate::step::draft::Emits;
use crate::topology::{Context, Decision, Fault, Request};

/// The kind of a step that gives a value at once. There is nothing for an effect to fulfil:
///
/// ```compile_fail,E0599
/// # use mire_client::EventData;
/// # use mire_sagas::{Req, Saga, SagaBuilder, task};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.hold")]
/// # struct HoldItem {}
/// # async fn hold(_: Req<HoldItem>) {}
/// # struct Booking;
/// # impl Saga for Booking {
/// #     type State = String;
/// #     const NAME: &'static str = "booking";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// saga.step("value", task(|| 42).effect(hold).terminal_success())
/// #     }
/// # }
/// ```
#[derive(Debug)]
pub struct Gives<O>(PhantomData<fn() -> O>);

/// The kind of a step that makes requests `R`, whose answers come to the output `O`.
#[derive(Debug)]
pub struct Asks<R, O = NoOutput>(PhantomData<fn() -> (R, O)>);

/// The kind of a step that starts an instance of saga `C` and waits for its end, which comes to the output `O`.
#[derive(Debug)]
pub struct Awaits<C, O = ChildEnded>(PhantomData<fn() -> (C, O)>);

/// The output of a step whose answers are not mapped: nobody can ask for it.
#[derive(Debug)]
pub struct NoOutput(());

/// A decide: a synchronous function of 0 to 8 parameters (see [`Extract`]) that returns what is [`Decided`].
///
/// It may run again after a crash, so it must do nothing but decide. What touches the world is an
/// [`Effect`](crate::Effect): an `async fn` does not compile here.
///
/// ```compile_fail,E0277
/// use mire_sagas::{Emit, Saga, SagaBuilder, State, task};
/// # struct Booking;
/// # impl Saga for Booking {
/// #     type State = String;
/// #     const NAME: &'static str = "booking";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// async fn reserve(State(item): State<String>) -> String {
///     call_the_provider(item).await // if we crash here, was the call made?
/// }
/// saga.step("reserve", task(reserve).terminal_success())
/// #     }
/// # }
/// # async fn call_the_provider(item: String) -> String { item }
/// ```
///
/// Nor does a closure that returns a future:
///
/// ```compile_fail,E0277
/// # use mire_sagas::{Emit, Saga, SagaBuilder, State, task};
/// # struct Booking;
/// # impl Saga for Booking {
/// #     type State = String;
/// #     const NAME: &'static str = "booking";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// saga.step("reserve", task(|State(item): State<String>| async move { item }).terminal_success())
/// #     }
/// # }
/// ```
///
/// The same step, synchronous, does:
///
/// ```
/// # use mire_sagas::{Emit, Saga, SagaBuilder, State, task};
/// # struct Booking;
/// # impl Saga for Booking {
/// #     type State = String;
/// #     const NAME: &'static str = "booking";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// saga.step("reserve", task(|State(item): State<String>| item).terminal_success())
/// #     }
/// # }
/// ```
///
/// Only an undo has a [`Cause`](crate::Cause):
///
/// ```compile_fail,E0277
/// # use mire_sagas::{Cause, Emit, Saga, SagaBuilder, State, task};
/// # struct Booking;
/// # impl Saga for Booking {
/// #     type State = String;
/// #     const NAME: &'static str = "booking";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// fn reserve(cause: Cause) -> String {
///     format!("{cause:?}")
/// }
/// saga.step("reserve", task(reserve).terminal_success())
/// #     }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "this function cannot decide what a step of the saga does",
    label = "no decide",
    note = "a decide is synchronous, has 0 to 8 parameters that implement `Extract`, and returns `Emit`, `Start` or a serialisable value",
    note = "it may run again after a crash: move what touches the world into an effect, `task(decide).effect(async_fn)`"
)]
#[allow(private_bounds)] // sealed
pub trait Decide<S, P, Args>: Decides<S, P, Args> {
    /// What kind of step this makes.
    type Kind;
}

/// What a decide can return: an [`Emit`], a [`Start`] of another saga, or any serialisable value, which is the step's
/// output then.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a decide can return",
    note = "return `Emit`, `Start` or a serialisable value; a future is none of these: move what is asynchronous into an effect"
)]
#[allow(private_bounds)] // sealed
pub trait Decided: IntoDecision {
    /// What kind of step this makes.
    type Kind;
}

impl<T: Serialize + 'static> Decided for T {
    type Kind = Gives<T>;
}

impl<R: Requests> Decided for Emit<R> {
    type Kind = Asks<R>;
}

impl<C: Saga> Decided for Start<C> {
    type Kind = Awaits<C>;
}

pub(crate) trait IntoDecision {
    fn into_decision(self) -> Result<Decision, Fault>;
    fn emits() -> Emits;
    fn output() -> Type;
}

impl<T: Serialize + 'static> IntoDecision for T {
    fn into_decision(self) -> Result<Decision, Fault> {
        serde_json::to_value(self)
            .map(Decision::Value)
            .map_err(|e| Fault(format!("{} is no JSON: {e}", Type::of::<T>())))
    }

    fn emits() -> Emits {
        Emits::Nothing
    }

    fn output() -> Type {
        Type::of::<T>()
    }
}

impl<R: Requests> IntoDecision for Emit<R> {
    fn into_decision(self) -> Result<Decision, Fault> {
        Ok(Decision::Emit {
            requests: self.requests?,
            timeout: self.timeout,
        })
    }

    fn emits() -> Emits {
        R::KINDS.map_or(Emits::Anything, Emits::these)
    }

    fn output() -> Type {
        Type::of::<NoOutput>()
    }
}

impl<C: Saga> IntoDecision for Start<C> {
    fn into_decision(self) -> Result<Decision, Fault> {
        let data = serde_json::to_value(self.encode()?).map_err(|e| Fault(e.to_string()))?;
        Ok(Decision::Emit {
            requests: vec![Request {
                kind: START_SAGA.to_owned(),
                data,
            }],
            timeout: None,
        })
    }

    fn emits() -> Emits {
        Emits::Start(C::NAME)
    }

    fn output() -> Type {
        Type::of::<ChildEnded>()
    }
}

/// The type of the request that starts an instance of another saga.
pub(crate) const START_SAGA: &str = "$start_saga";

pub(crate) trait Decides<S, P, Args>: Send + Sync + 'static {
    fn requires(all: &mut Vec<Requirement>);
    fn decide(&self, context: &Context<'_>) -> Result<Decision, Fault>;
    fn emits() -> Emits;
    fn output() -> Type;
}

/// A gate: a synchronous function of 0 to 8 parameters (see [`Extract`]) that returns whether the step is to be done.
#[diagnostic::on_unimplemented(
    message = "this function cannot be a gate",
    note = "a gate is synchronous, has 0 to 8 parameters that implement `Extract`, and returns a bool"
)]
#[allow(private_bounds)] // sealed
pub trait Predicate<S, Args>: Opens<S, Args> {}

pub(crate) trait Opens<S, Args>: Send + Sync + 'static {
    fn requires(all: &mut Vec<Requirement>);
    fn is_open(&self, context: &Context<'_>) -> Result<bool, Fault>;
}

/// What a function is called in its source; None for a closure.
pub(crate) fn function_name<F>() -> Option<String> {
    let name = short_name(type_name::<F>());
    name.chars()
        .all(|c| c.is_alphanumeric() || c == '_')
        .then_some(name)
}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<S, P, F, R, $($arg,)*> Decide<S, P, ($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: Decided,
            $($arg: Extract<S, P>,)*
        {
            type Kind = R::Kind;
        }

        impl<S, P, F, R, $($arg,)*> Decides<S, P, ($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: Decided,
            $($arg: Extract<S, P>,)*
        {
            fn requires(_all: &mut Vec<Requirement>) {
                $($arg::requires(_all);)*
            }

            fn decide(&self, _context: &Context<'_>) -> Result<Decision, Fault> {
                self($($arg::read(_context)?),*).into_decision()
            }

            fn emits() -> Emits {
                R::emits()
            }

            fn output() -> Type {
                R::output()
            }
        }

        impl<S, F, $($arg,)*> Predicate<S, ($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> bool + Send + Sync + 'static,
            $($arg: Extract<S, InStep>,)*
        {
        }

        impl<S, F, $($arg,)*> Opens<S, ($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> bool + Send + Sync + 'static,
            $($arg: Extract<S, InStep>,)*
        {
            fn requires(_all: &mut Vec<Requirement>) {
                $($arg::requires(_all);)*
            }

            fn is_open(&self, _context: &Context<'_>) -> Result<bool, Fault> {
                Ok(self($($arg::read(_context)?),*))
            }
        }
    };
}

crate::arity::each_arity!(functions);
