//! [`task`] and [`Task`]: steps. [`comp`] and [`Comp`] (in `comp.rs`): how they are undone.

pub(crate) mod draft;

mod comp;
mod each;

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use mire_client::EventData;
use serde::Serialize;

use crate::child::{self, ChildEnded};
use crate::decide::{Asks, Awaits, Decide, NoOutput, Predicate};
use crate::emit::AnyRequest;
use crate::extract::{InStep, State, Type};
use crate::handler::{Effect, EffectDraft};
use crate::response::{FromResponse, OnResponse, trying};
use crate::retry::RetryPolicy;
use crate::saga::Saga;
use crate::topology::Terminal;

pub use comp::{Comp, comp};
pub use draft::StepNames;
pub use each::{Each, Lists, for_each};

use draft::{ActionDraft, GateDraft, Of, StepDraft};

/// A step of saga `S` that is being declared, for [`SagaBuilder::step`](crate::SagaBuilder::step). What it can be told
/// depends on its kind `K`: one that [`Gives`](crate::Gives) a value has no effect and no answers; one that
/// [`Asks`] has.
#[must_use]
pub struct Task<S, K> {
    draft: StepDraft,
    kind: Of<S, K>,
}

/// A step: `decide` says what it does.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{Emit, IdempotencyKey, Output, Req, Saga, SagaBuilder, State, comp, task};
/// use std::time::Duration;
///
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.hold")]
/// # struct HoldItem { item: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.held")]
/// # struct ItemHeld { hold: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.release")]
/// # struct ReleaseItem { hold: String }
/// # #[derive(Serialize, Deserialize)]
/// # struct Reserved { hold: String }
/// fn reserve(State(item): State<String>) -> Emit<HoldItem> {
///     Emit::event(HoldItem { item })
/// }
///
/// async fn hold(Req(request): Req<HoldItem>, key: IdempotencyKey) -> ItemHeld {
///     ItemHeld { hold: format!("{} {key}", request.item) }
/// }
///
/// fn release(Output(reserved): Output<Reserved>) -> Emit<ReleaseItem> {
///     Emit::event(ReleaseItem { hold: reserved.hold })
/// }
///
/// async fn let_go(Req(_): Req<ReleaseItem>) {}
///
/// struct Booking;
/// impl Saga for Booking {
///     type State = String;
///     const NAME: &'static str = "booking";
///     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
///         saga.step(
///             "reserve",
///             task(reserve)
///                 .effect(hold)
///                 .on_response(|held: ItemHeld| Reserved { hold: held.hold })
///                 .timeout(Duration::from_secs(60))
///                 .compensate(comp(release).effect(let_go))
///                 .terminal_success(),
///         )
///     }
/// }
/// # Booking::topology()?;
/// # Ok::<(), mire_sagas::TopologyErrors>(())
/// ```
pub fn task<S, H, Args>(decide: H) -> Task<S, H::Kind>
where
    S: Saga,
    H: Decide<S, InStep, Args>,
{
    Task::new(ActionDraft::new::<S, InStep, Args, H>(decide), H::output())
}

/// Steps that wait for answers.
pub trait Waits {}
impl<R, O> Waits for Asks<R, O> {}
impl<R> Waits for Each<R> {}
impl<C, O> Waits for Awaits<C, O> {}

/// Steps whose requests effects can fulfil.
pub trait Requesting: Waits {}
impl<R, O> Requesting for Asks<R, O> {}
impl<R> Requesting for Each<R> {}

impl<S: Saga, K> Task<S, K> {
    fn new(action: ActionDraft, output: Type) -> Self {
        Self {
            draft: StepDraft {
                name: String::new(),
                after: Vec::new(),
                after_any_of: Vec::new(),
                gates: Vec::new(),
                terminals: Vec::new(),
                action,
                undo: None,
                output,
            },
            kind: PhantomData,
        }
    }

    fn into_kind<K2>(self) -> Task<S, K2> {
        Task {
            draft: self.draft,
            kind: PhantomData,
        }
    }

    pub(crate) fn into_draft(mut self, name: String) -> StepDraft {
        self.draft.name = name;
        self.draft
    }

    /// Begins when all of these steps have completed. Said twice, the steps add up. A step without any begins at once.
    pub fn after(mut self, steps: impl StepNames) -> Self {
        self.draft.after.extend(steps.into_names());
        self
    }

    /// Begins when one of these steps has completed (and all of [`after`](Self::after)). It is skipped when all of
    /// them are.
    pub fn after_any_of(mut self, steps: impl StepNames) -> Self {
        self.draft.after_any_of.extend(steps.into_names());
        self
    }

    /// Skips the step (and what comes after it) unless this says yes, once it could begin. It can ask for what a decide
    /// can ask for: `.gated_by(|Output(credit): Output<Credit>| credit.good)`. Of several gates all must be open.
    pub fn gated_by<H, Args>(mut self, open: H) -> Self
    where
        H: Predicate<S, Args>,
    {
        self.draft.gates.push(GateDraft::new::<S, Args, H>(open));
        self
    }

    /// Skips the step (and what comes after it) unless this says yes of the instance's state.
    pub fn gated_by_state<F>(mut self, open: F) -> Self
    where
        F: Fn(&S::State) -> bool + Send + Sync + 'static,
    {
        let label = crate::decide::function_name::<F>();
        let mut gate = GateDraft::new::<S, _, _>(move |State(state): State<S::State>| open(&state));
        gate.gate.label = label.unwrap_or_else(|| "state".to_owned());
        self.draft.gates.push(gate);
        self
    }

    /// The instance has completed when this step has. What is still going on elsewhere is abandoned.
    pub fn terminal_success(mut self) -> Self {
        self.draft.terminals.push(Terminal::Success);
        self
    }

    /// When this step completes, the instance turns back: what was done is undone, and it ends failed.
    pub fn terminal_failure(mut self) -> Self {
        self.draft.terminals.push(Terminal::Failure);
        self
    }

    /// How the step is undone, once it has completed, or when it is known to have had an effect.
    pub fn compensate<K2>(mut self, undo: Comp<S, K2>) -> Self {
        self.draft.undo = Some(undo.into_draft());
        self
    }
}

impl<S: Saga, K: Waits> Task<S, K> {
    /// How long to wait for the answers, from when the step began, by the database's clock. Then the step has timed
    /// out, and the instance turns back.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.draft.action.timeout = Some(timeout);
        self
    }
}

impl<S: Saga, K: Requesting> Task<S, K> {
    /// Fulfils the requests of the type that the effect takes as [`Req`](crate::Req). Without an effect, here or on the
    /// builder, a request goes to the outbox, and the step waits for an answer from outside.
    pub fn effect<H, Args>(mut self, effect: H) -> Self
    where
        H: Effect<Args>,
    {
        self.draft.action.effects.push(EffectDraft::new(effect));
        self
    }

    /// How often and how soon a failed effect is tried again.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.draft.action.retry = retry;
        self
    }
}

impl<S: Saga, O> Task<S, Asks<AnyRequest, O>> {
    /// Says of a step that returns a plain [`Emit`](crate::Emit) that it makes requests of this type, so that it can be
    /// checked that somebody sees to them. Say it for each type.
    pub fn emits<R: EventData>(mut self) -> Self {
        self.draft.action.emits.add(R::KINDS);
        self
    }
}

impl<S: Saga, R> Task<S, Asks<R, NoOutput>> {
    /// Turns the answer into the step's output. What can be an answer is said at [`OnResponse`].
    pub fn on_response<M, F>(mut self, map: F) -> Task<S, Asks<R, F::Output>>
    where
        F: OnResponse<M>,
    {
        self.draft.output = Type::of::<F::Output>();
        self.draft.action.answers = Some(F::answers());
        self.draft.action.respond = Arc::new(move |response| map.respond(response));
        self.into_kind()
    }

    /// As [`on_response`](Self::on_response), for a function that may find that the step failed: an error turns the
    /// instance back.
    pub fn try_on_response<M, T, O, X, F>(mut self, map: F) -> Task<S, Asks<R, O>>
    where
        F: Fn(T) -> Result<O, X> + Send + Sync + 'static,
        T: FromResponse<M>,
        O: Serialize + 'static,
        X: Display,
    {
        self.draft.output = Type::of::<O>();
        self.draft.action.answers = Some(T::answers());
        self.draft.action.respond = trying(map);
        self.into_kind()
    }

    /// Turns each answer to [`Emit::many`](crate::Emit::many) into an element of the output, which is a `Vec` in the
    /// order of the requests. The step waits for all of them.
    pub fn on_each_response<M, F>(self, map: F) -> Task<S, Asks<R, Vec<F::Output>>>
    where
        F: OnResponse<M>,
    {
        self.map_each(map).into_kind()
    }
}

impl<S: Saga, R> Task<S, Each<R>> {
    /// Turns the answer for each item into an element of the output, which is a `Vec` in the order of the list.
    pub fn on_each_response<M, F>(self, map: F) -> Task<S, Asks<R, Vec<F::Output>>>
    where
        F: OnResponse<M>,
    {
        self.map_each(map).into_kind()
    }
}

impl<S: Saga, K: Requesting> Task<S, K> {
    fn map_each<M, F>(mut self, map: F) -> Self
    where
        F: OnResponse<M>,
    {
        self.draft.output = Type::of::<Vec<F::Output>>();
        self.draft.action.many = true;
        self.draft.action.answers = Some(F::answers());
        self.draft.action.respond = Arc::new(move |response| map.respond(response));
        self
    }
}

impl<S: Saga, C> Task<S, Awaits<C>> {
    /// Completes the step however the child ends.
    pub fn any_outcome(mut self) -> Self {
        self.draft.action.respond = Arc::new(|response| child::ended(response, true));
        self
    }

    /// Turns the child's end into the step's output.
    pub fn on_end<F, O>(mut self, map: F) -> Task<S, Awaits<C, O>>
    where
        F: Fn(ChildEnded) -> O + Send + Sync + 'static,
        O: Serialize + 'static,
    {
        let ended = self.draft.action.respond;
        self.draft.output = Type::of::<O>();
        self.draft.action.respond = child::mapped(ended, map);
        self.into_kind()
    }
}

impl<S, K> fmt::Debug for Task<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("after", &self.draft.after)
            .field("after_any_of", &self.draft.after_any_of)
            .field("output", &self.draft.output.name)
            .finish_non_exhaustive()
    }
}
