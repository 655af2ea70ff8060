//! [`Saga`] and [`Start`]: what a saga is, and how an instance of it begins.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::builder::{SagaBuilder, SagaTopology, TopologyErrors};
use crate::topology::Fault;

/// A business process: steps, what depends on what, and how each is undone.
///
/// ```
/// use mire_sagas::{Emit, Saga, SagaBuilder, State, task};
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "parcel.fetch")]
/// # struct FetchParcel { order: String }
///
/// #[derive(Serialize, Deserialize)]
/// struct Shipment {
///     order: String,
/// }
///
/// struct Shipping;
///
/// impl Saga for Shipping {
///     type State = Shipment;
///     const NAME: &'static str = "shipping";
///
///     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
///         saga.step("fetch", task(fetch).terminal_success())
///             .allow_unhandled::<FetchParcel>() // a carrier's service reads the outbox
///     }
/// }
///
/// fn fetch(State(shipment): State<Shipment>) -> Emit<FetchParcel> {
///     Emit::event(FetchParcel { order: shipment.order })
/// }
///
/// assert_eq!(Shipping::topology()?.name(), "shipping");
/// # Ok::<(), mire_sagas::TopologyErrors>(())
/// ```
pub trait Saga: Sized + Send + Sync + 'static {
    /// What an instance knows from its start on. It never changes: what is learnt on the way are the steps' outputs.
    type State: Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Names the saga in the database: no `-`, `/`, `~` or blank, and no `$` in front.
    const NAME: &'static str;

    /// The version of the topology, 1 or more: raise it when instances in flight could not go on under the new one.
    /// They keep the version that they started with, and need a worker that knows it.
    const VERSION: i32 = 1;

    /// Declares steps, signals and starts.
    fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self>;

    /// The builder with all that [`build`](Self::build) declares, for adding dependencies.
    fn builder() -> SagaBuilder<Self> {
        Self::build(SagaBuilder::new())
    }

    /// The checked topology of a saga that needs no dependencies.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    fn topology() -> Result<SagaTopology<Self>, TopologyErrors> {
        Self::builder().build()
    }
}

/// An instance to be started. Also what a step decides that starts another saga and waits for its end
/// (see [`child`](crate::child)).
#[derive(Debug)]
#[must_use]
pub struct Start<S: Saga> {
    instance: String,
    state: S::State,
    trigger: Option<Result<Value, Fault>>,
}

impl<S: Saga> Start<S> {
    /// An instance with this id, unique within the saga for ever: starting it again does nothing.
    pub fn new(instance: impl Into<String>, state: S::State) -> Self {
        Self {
            instance: instance.into(),
            state,
            trigger: None,
        }
    }

    /// What set it off, for [`Trigger`](crate::Trigger). With [`start_on`](SagaBuilder::start_on) that is the event,
    /// unless something else is said here.
    pub fn trigger(mut self, trigger: &impl Serialize) -> Self {
        let trigger = serde_json::to_value(trigger);
        self.trigger =
            Some(trigger.map_err(|e| Fault(format!("the trigger of {} is no JSON: {e}", S::NAME))));
        self
    }

    /// The instance's id.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The instance's state.
    #[must_use]
    pub fn state(&self) -> &S::State {
        &self.state
    }

    pub(crate) fn or_trigger(self, trigger: &impl Serialize) -> Self {
        match self.trigger {
            Some(_) => self,
            None => self.trigger(trigger),
        }
    }

    pub(crate) fn encode(self) -> Result<EncodedStart, Fault> {
        let state = serde_json::to_value(&self.state)
            .map_err(|e| Fault(format!("the state of {} is no JSON: {e}", S::NAME)))?;
        Ok(EncodedStart {
            saga: S::NAME.to_owned(),
            instance: self.instance,
            topology_version: S::VERSION,
            state,
            trigger: self.trigger.transpose()?,
        })
    }
}

/// A start without its types; also the data of a `$start_saga` request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncodedStart {
    pub(crate) saga: String,
    pub(crate) instance: String,
    pub(crate) topology_version: i32,
    pub(crate) state: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trigger: Option<Value>,
}
