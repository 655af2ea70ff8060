//! [`Testing`]: one decide, gate, answer or effect of a saga by itself, without a database.

mod decided;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use mire_client::EventData;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::effect::EffectError;
use crate::extract::Type;
use crate::history::Cause;
use crate::response::{AsEvent, Decode, Encode};
use crate::saga::Saga;
use crate::topology::{Action, Context, EffectCall, Refusal, Request, Response, Topology};

pub use decided::TestDecision;

/// One part of saga `S` by itself: tell it what its functions will ask for, then call one. Nothing is checked that
/// [`build`](crate::SagaBuilder::build) checks: dependencies that the function at hand does not ask for need not be there.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{Cause, Emit, Output, Saga, SagaBuilder, State, Testing, comp, task};
///
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.hold")]
/// # struct HoldItem { item: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.held")]
/// # struct ItemHeld { hold: u32 }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "item.release")]
/// # struct ReleaseItem { hold: u32, why: String }
/// # #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// # struct Reserved { hold: u32 }
/// # struct Booking;
/// impl Saga for Booking {
///     // …
/// #     type State = String;
/// #     const NAME: &'static str = "booking";
///     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
///         saga.step(
///             "reserve",
///             task(reserve)
///                 .on_response(|held: ItemHeld| Reserved { hold: held.hold })
///                 .compensate(comp(release))
///                 .terminal_success(),
///         )
///     }
/// }
/// # fn reserve(State(item): State<String>) -> Emit<HoldItem> { Emit::event(HoldItem { item }) }
/// # fn release(Output(r): Output<Reserved>, cause: Cause) -> Emit<ReleaseItem> {
/// #     Emit::event(ReleaseItem { hold: r.hold, why: cause.to_string() })
/// # }
///
/// let testing = Testing::of::<Booking>("chair".to_owned());
/// let decision = testing.decide("reserve");
/// assert_eq!(decision.request::<HoldItem>(), HoldItem { item: "chair".into() });
///
/// let output: Reserved = testing.respond("reserve", ItemHeld { hold: 7 }).unwrap();
/// assert_eq!(output, Reserved { hold: 7 });
///
/// let cause = Cause::Cancelled { reason: "rain".into() };
/// let decision = testing.output(output).cause(cause).undo("reserve");
/// assert_eq!(decision.request::<ReleaseItem>().hold, 7);
/// ```
#[must_use]
pub struct Testing<S> {
    topology: Topology,
    state: Value,
    trigger: Option<Value>,
    outputs: Vec<Option<Value>>,
    cause: Option<Cause>,
    saga: PhantomData<fn() -> S>,
}

impl Testing<()> {
    /// Parts of saga `S`, in an instance with this state.
    ///
    /// # Panics
    /// When the state is no JSON.
    pub fn of<S: Saga>(state: S::State) -> Testing<S> {
        let (topology, _) = S::builder().draft.assemble();
        Testing {
            outputs: vec![None; topology.steps.len()],
            topology,
            state: json(&state),
            trigger: None,
            cause: None,
            saga: PhantomData,
        }
    }
}

impl<S: Saga> Testing<S> {
    /// What set the instance off.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn trigger(mut self, trigger: &impl Serialize) -> Self {
        self.trigger = Some(json(trigger));
        self
    }

    /// Something for [`Dep`](crate::Dep).
    pub fn dep<T: Send + Sync + 'static>(mut self, dep: T) -> Self {
        let deps = &self.topology.deps.0;
        let mut deps: HashMap<TypeId, Arc<dyn Any + Send + Sync>> = HashMap::clone(deps);
        deps.insert(TypeId::of::<T>(), Arc::new(dep));
        self.topology.deps.0 = Arc::new(deps);
        self
    }

    /// The output of the step (or the steps) that gives this type.
    ///
    /// # Panics
    /// When no step does, or it is no JSON.
    #[track_caller]
    pub fn output<O: Serialize + 'static>(mut self, output: O) -> Self {
        let wanted = Type::of::<O>();
        let mut given = false;
        for (step, place) in self.topology.steps.iter().zip(&mut self.outputs) {
            if step.output_type == wanted.id {
                *place = Some(json(&output));
                given = true;
            }
        }
        assert!(given, "no step of saga {} gives output {wanted}", S::NAME);
        self
    }

    /// Why the instance turned back, for an undo; if nothing is said, because somebody forced it.
    pub fn cause(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// What a step decides.
    ///
    /// # Panics
    /// When there is no such step, or it asks for something that is not there.
    #[must_use]
    #[track_caller]
    pub fn decide(&self, step: &str) -> TestDecision {
        let number = self.number(step);
        run(
            &self.topology.steps[number].action,
            &self.context(number, None),
        )
    }

    /// What the undo of a step decides.
    ///
    /// # Panics
    /// When the step has none, or it asks for something that is not there.
    #[must_use]
    #[track_caller]
    pub fn undo(&self, step: &str) -> TestDecision {
        let number = self.number(step);
        let forced = Cause::Forced {
            reason: String::new(),
        };
        let cause = self.cause.as_ref().unwrap_or(&forced);
        run(self.undo_of(number), &self.context(number, Some(cause)))
    }

    /// Whether all gates of a step are open.
    ///
    /// # Panics
    /// When there is no such step, or a gate asks for something that is not there.
    #[must_use]
    #[track_caller]
    pub fn is_open(&self, step: &str) -> bool {
        let number = self.number(step);
        let context = self.context(number, None);
        let mut gates = self.topology.steps[number].gates.iter();
        gates.all(|gate| match (gate.open)(&context) {
            Ok(open) => open,
            Err(fault) => panic!("gate {:?} of step {step:?}: {fault}", gate.label),
        })
    }

    /// The output that an answer to one request of a step comes to.
    ///
    /// # Errors
    /// Why the step fails with this answer.
    ///
    /// # Panics
    /// When the step cannot read the answer, or its output is of another type.
    #[track_caller]
    pub fn respond<O: DeserializeOwned>(
        &self,
        step: &str,
        answer: impl EventData,
    ) -> Result<O, String> {
        self.answered(step, event(answer))
    }

    /// As [`respond`](Self::respond), for an answer that is plain data.
    ///
    /// # Errors
    /// Why the step fails with this answer.
    ///
    /// # Panics
    /// When the step cannot read the answer, or its output is of another type.
    #[track_caller]
    pub fn respond_data<O: DeserializeOwned>(
        &self,
        step: &str,
        answer: &impl Serialize,
    ) -> Result<O, String> {
        let data = json(answer);
        self.answered(step, Response { kind: None, data })
    }

    /// Calls the effect of a step for a request, with the key `test`; an answer that is an event.
    ///
    /// # Errors
    /// What the effect says, or that its answer is another event.
    ///
    /// # Panics
    /// When the step has no effect for this request.
    pub async fn call<A: EventData>(
        &self,
        step: &str,
        request: impl EventData,
    ) -> Result<A, EffectError> {
        let action = &self.topology.steps[self.number(step)].action;
        self.perform(action, step, request).await
    }

    /// As [`call`](Self::call), for the effect of a step's undo.
    ///
    /// # Errors
    /// What the effect says, or that its answer is another event.
    ///
    /// # Panics
    /// When the undo has no effect for this request.
    pub async fn call_undo<A: EventData>(
        &self,
        step: &str,
        request: impl EventData,
    ) -> Result<A, EffectError> {
        let action = self.undo_of(self.number(step));
        self.perform(action, step, request).await
    }
}

impl<S: Saga> Testing<S> {
    #[track_caller]
    fn number(&self, step: &str) -> usize {
        match self.topology.step_no(step) {
            Some(number) => number,
            None => panic!("saga {} has no step {step:?}", S::NAME),
        }
    }

    #[track_caller]
    fn undo_of(&self, number: usize) -> &Action {
        let step = &self.topology.steps[number];
        match &step.undo {
            Some(undo) => &undo.action,
            None => panic!("step {:?} of saga {} has no undo", step.name, S::NAME),
        }
    }

    fn context<'a>(&'a self, step: usize, cause: Option<&'a Cause>) -> Context<'a> {
        Context {
            topology: &self.topology,
            state: &self.state,
            trigger: self.trigger.as_ref(),
            outputs: self.outputs.iter().map(Option::as_ref).collect(),
            cause,
            step,
        }
    }

    #[track_caller]
    fn answered<O: DeserializeOwned>(&self, step: &str, answer: Response) -> Result<O, String> {
        let action = &self.topology.steps[self.number(step)].action;
        match (action.respond)(&answer) {
            Ok(output) => Ok(decided::read(output)),
            Err(Refusal::Failed(why)) => Err(why),
            Err(Refusal::Unreadable(why)) => panic!("step {step:?} cannot read this answer: {why}"),
        }
    }

    async fn perform<A: EventData>(
        &self,
        action: &Action,
        step: &str,
        request: impl EventData,
    ) -> Result<A, EffectError> {
        let Response { kind, data } = event(request);
        let kind = kind.unwrap_or_default();
        let Some(effect) = action.effects.get(&kind) else {
            panic!(
                "step {step:?} of saga {} has no effect for {kind:?}",
                S::NAME
            );
        };
        let call = EffectCall {
            request: Request { kind, data },
            key: "test".to_owned(),
            deps: self.topology.deps.clone(),
        };
        let answer = effect(call).await?;
        Decode::<AsEvent>::decode(&answer).map_err(EffectError::permanent)
    }
}

#[track_caller]
fn run(action: &Action, context: &Context<'_>) -> TestDecision {
    match (action.decide)(context) {
        Ok(decision) => TestDecision::new(decision),
        Err(fault) => panic!(
            "step {:?}: {fault}",
            context.topology.steps[context.step].name
        ),
    }
}

#[track_caller]
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("what is stored is JSON")
}

#[track_caller]
fn event(event: impl EventData) -> Response {
    Encode::<AsEvent>::encode(event).expect("an event is JSON")
}

impl<S> fmt::Debug for Testing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Testing")
            .field("saga", &self.topology.name)
            .finish_non_exhaustive()
    }
}
