//! [`Effect`]: asynchronous functions that fulfil requests.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mire_client::{EventData, EventKind};

use crate::effect::EffectError;
use crate::extract::{Dep, Requirement, Type, find_dep, short_name};
use crate::response::{Answers, IntoResponse, event_from};
use crate::topology::{EffectCall, EffectFn, Response};

/// The request that an effect is to fulfil.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Req<R>(pub R);

/// Names one request of one instance: the same in every attempt, after every crash, by whichever worker; no other
/// request ever has it. Give it to providers, so that they act once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// For testing an effect by itself.
    #[must_use]
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The key: `saga/instance/step/activation/request`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for IdempotencyKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an effect can have as a parameter.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that an effect can ask for",
    label = "no parameter of an effect",
    note = "there are `Req<R>`, `Dep<T>` and `IdempotencyKey`; what else it needs to know belongs into the request"
)]
#[allow(private_bounds)] // sealed
pub trait FromCall: Take {}

pub(crate) trait Take: Sized {
    fn requires(needs: &mut Needs);
    fn take(call: &EffectCall) -> Result<Self, String>;
}

/// Without what an effect cannot be called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// Of each [`Req`].
    pub(crate) requests: Vec<(Type, &'static [EventKind])>,
    pub(crate) deps: Vec<Requirement>,
}

impl<R: EventData> FromCall for Req<R> {}
impl<R: EventData> Take for Req<R> {
    fn requires(needs: &mut Needs) {
        needs.requests.push((Type::of::<R>(), R::KINDS));
    }

    fn take(call: &EffectCall) -> Result<Self, String> {
        let request = &call.request;
        event_from(Some(&request.kind), &request.data)
            .map(Self)
            .map_err(|why| format!("the request cannot be read: {why}"))
    }
}

impl<T: Send + Sync + 'static> FromCall for Dep<T> {}
impl<T: Send + Sync + 'static> Take for Dep<T> {
    fn requires(needs: &mut Needs) {
        needs.deps.push(Requirement::Dep(Type::of::<T>()));
    }

    fn take(call: &EffectCall) -> Result<Self, String> {
        find_dep(&call.deps).map(Self)
    }
}

impl FromCall for IdempotencyKey {}
impl Take for IdempotencyKey {
    fn requires(_: &mut Needs) {}

    fn take(call: &EffectCall) -> Result<Self, String> {
        Ok(Self::new(call.key.as_str()))
    }
}

/// What an effect can return: an answer (see [`IntoResponse`]), or a `Result` of one with an error that turns into
/// [`EffectError`] (as every [`std::error::Error`] does).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that an effect can return",
    note = "return a `#[derive(EventData)]` type, `Data(value)`, `()`, or a `Result` of these whose error turns into `EffectError`"
)]
#[allow(private_bounds)] // sealed
pub trait EffectResult<M>: Finish<M> {}

pub(crate) trait Finish<M>: Send {
    fn answers() -> Answers;
    fn finish(self) -> Result<Response, EffectError>;
}

/// Marks effects that cannot fail.
#[derive(Debug)]
pub struct Infallible<M>(M);

/// Marks effects that can fail.
#[derive(Debug)]
pub struct Fallible<M>(M);

impl<T: IntoResponse<M> + Send, M> EffectResult<Infallible<M>> for T {}
impl<T: IntoResponse<M> + Send, M> Finish<Infallible<M>> for T {
    fn answers() -> Answers {
        T::answers()
    }

    fn finish(self) -> Result<Response, EffectError> {
        self.encode().map_err(EffectError::permanent)
    }
}

impl<T, E, M> EffectResult<Fallible<M>> for Result<T, E>
where
    T: IntoResponse<M> + Send,
    E: Into<EffectError> + Send,
{
}

impl<T, E, M> Finish<Fallible<M>> for Result<T, E>
where
    T: IntoResponse<M> + Send,
    E: Into<EffectError> + Send,
{
    fn answers() -> Answers {
        T::answers()
    }

    fn finish(self) -> Result<Response, EffectError> {
        self.map_err(Into::into)?
            .encode()
            .map_err(EffectError::permanent)
    }
}

/// An effect: an `async fn` of 0 to 8 parameters, in any order: [`Req<R>`](Req), [`Dep<T>`](Dep), [`IdempotencyKey`].
///
/// It is called at least once for each request, always with the same key: after a crash, and (if it fails) as its
/// step's [`RetryPolicy`](crate::RetryPolicy) says.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{Dep, EffectError, IdempotencyKey, Req};
///
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.hold")]
/// # struct HoldItem { item: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.held")]
/// # struct ItemHeld { hold: String }
/// # struct Inventory;
/// # impl Inventory {
/// #     async fn hold(&self, item: &str, key: &str) -> std::io::Result<String> { Ok(format!("{item} {key}")) }
/// # }
/// async fn hold(
///     Req(request): Req<HoldItem>,
///     Dep(inventory): Dep<Inventory>,
///     key: IdempotencyKey,
/// ) -> Result<ItemHeld, EffectError> {
///     let hold = inventory.hold(&request.item, key.as_str()).await?; // an error is tried again
///     Ok(ItemHeld { hold })
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "this function is no effect",
    note = "an effect is an `async fn` of 0 to 8 parameters that implement `FromCall` (`Req<R>`, `Dep<T>`, `IdempotencyKey`)",
    note = "it returns a `#[derive(EventData)]` type, `Data(value)`, `()`, or a `Result` of these whose error turns into `EffectError`; its future is Send"
)]
#[allow(private_bounds)] // sealed
pub trait Effect<Args>: Perform<Args> {}

pub(crate) trait Perform<Args>: Send + Sync + 'static {
    fn needs() -> Needs;
    fn answers() -> Answers;
    fn perform(&self, call: &EffectCall) -> BoxFuture<'static, Result<Response, EffectError>>;
}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<F, Fut, R, M, $($arg,)*> Effect<(M, $($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: EffectResult<M> + 'static,
            M: 'static,
            $($arg: FromCall,)*
        {
        }

        impl<F, Fut, R, M, $($arg,)*> Perform<(M, $($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: EffectResult<M> + 'static,
            M: 'static,
            $($arg: FromCall,)*
        {
            fn needs() -> Needs {
                #[allow(unused_mut)]
                let mut needs = Needs::default();
                $($arg::requires(&mut needs);)*
                needs
            }

            fn answers() -> Answers {
                R::answers()
            }

            #[allow(non_snake_case)]
            fn perform(
                &self,
                _call: &EffectCall,
            ) -> BoxFuture<'static, Result<Response, EffectError>> {
                $(let $arg = match $arg::take(_call) {
                    Ok(taken) => taken,
                    // A newer version of the program may be able to: not permanent.
                    Err(why) => return std::future::ready(Err(EffectError::transient(why))).boxed(),
                };)*
                self($($arg),*).map(R::finish).boxed()
            }
        }
    };
}

crate::arity::each_arity!(functions);

/// An effect on its way into a topology.
#[derive(Clone)]
pub(crate) struct EffectDraft {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) answers: Answers,
    pub(crate) call: EffectFn,
}

impl EffectDraft {
    pub(crate) fn new<Args, H: Effect<Args>>(handler: H) -> Self {
        Self {
            name: std::any::type_name::<H>(),
            needs: H::needs(),
            answers: H::answers(),
            call: Arc::new(move |call| handler.perform(&call)),
        }
    }

    /// What it is called in its source.
    pub(crate) fn short_name(&self) -> String {
        short_name(self.name)
    }
}
