//! [`SagaRunner`]: an application's hands on the instances of one saga.

mod core;
mod endings;
mod operate;
mod query;
mod start;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mire_client::EventStore;

pub(crate) use self::core::{Core, start_in};
pub use start::Started;
pub(crate) use start::encoded;
pub use status::{Delivery, EmittedRequest, HistoryEntry, ListFilter, ListedInstance};

use crate::answer::Answer;
use crate::builder::SagaTopology;
use crate::error::Result;
use crate::response::IntoResponse;
use crate::saga::Saga;

/// Starts instances of one saga, brings them answers and signals, and tells how they are. Cheap to clone.
///
/// What it is told is committed together with all that follows from it: an answer that completes a step and the requests of
/// the next one are one commit. Effects that can run now are run here and now; what has to wait (for an answer, a timer, a
/// retry) is a [`SagaWorker`](crate::SagaWorker)'s business, or that of the next call.
///
/// Where an instance is in the hands of a worker just now, or of another topology version, an answer is recorded, and
/// whoever has it goes on from there.
///
/// ```no_run
/// # use mire_client::{EventData, EventStore};
/// # use mire_sagas::{Emit, Saga, SagaBuilder, SagaRunner, State, task};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "parcel.fetch")]
/// # struct FetchParcel { order: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "parcel.fetched")]
/// # struct ParcelFetched { weight: u32 }
/// # struct Shipping;
/// # impl Saga for Shipping {
/// #     type State = String;
/// #     const NAME: &'static str = "shipping";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
/// #         saga.step("fetch", task(fetch).terminal_success()).allow_unhandled::<FetchParcel>()
/// #     }
/// # }
/// # fn fetch(State(order): State<String>) -> Emit<FetchParcel> { Emit::event(FetchParcel { order }) }
/// # async fn f(store: EventStore) -> Result<(), Box<dyn std::error::Error>> {
/// let runner = SagaRunner::new(Shipping::topology()?, store);
/// runner.start("order-17", "17".to_owned()).await?;
/// runner.deliver("order-17", "fetch", ParcelFetched { weight: 900 }).await?;
/// assert!(runner.status("order-17").await?.is_ended());
/// # Ok(()) }
/// ```
pub struct SagaRunner<S> {
    core: Arc<Core>,
    topology: SagaTopology<S>,
}

impl<S> Clone for SagaRunner<S> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
            topology: self.topology.clone(),
        }
    }
}

impl<S> fmt::Debug for SagaRunner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaRunner")
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

impl<S: Saga> SagaRunner<S> {
    /// A runner of this saga on this store.
    #[must_use]
    pub fn new(topology: SagaTopology<S>, store: EventStore) -> Self {
        Self {
            core: Arc::new(Core::new(topology.erased().clone(), store)),
            topology,
        }
    }

    /// How long one attempt of an effect may take that runs here: 5 minutes if not said, 1 ms at least, [`Duration::MAX`] for
    /// ever. What becomes of one that takes longer is said at
    /// [`SagaWorkerBuilder::effect_timeout`](crate::SagaWorkerBuilder::effect_timeout). Clones made before keep theirs.
    #[must_use]
    pub fn effect_timeout(self, limit: Duration) -> Self {
        Self {
            core: Arc::new(self.core.limited(limit)),
            topology: self.topology,
        }
    }

    /// The saga.
    #[must_use]
    pub fn topology(&self) -> &SagaTopology<S> {
        &self.topology
    }

    /// Delivers the answer to a step's request (its first one, of whichever activation is under way), and does all that
    /// can be done then. An answer that comes early waits for its step; one that comes twice or late is recorded, and does
    /// what it means to do: a step that had been given up is undone after all, if it has an undo.
    ///
    /// # Errors
    /// [`is_not_found`](crate::Error::is_not_found), [`Error::Pruned`](crate::Error::Pruned),
    /// [`Error::UnknownStep`](crate::Error::UnknownStep), [`Error::Store`](crate::Error::Store).
    pub async fn deliver<M>(
        &self,
        instance: &str,
        step: &str,
        response: impl IntoResponse<M>,
    ) -> Result<Delivery> {
        let answer = Answer::response(response)?;
        self.deliver_answer(instance, step, answer).await
    }

    /// Tells a step that what it asked for failed.
    ///
    /// # Errors
    /// Those of [`deliver`](Self::deliver).
    pub async fn deliver_failure(
        &self,
        instance: &str,
        step: &str,
        error: impl Into<String>,
    ) -> Result<Delivery> {
        self.deliver_answer(instance, step, Answer::failure(error))
            .await
    }

    /// Delivers an answer of which more is to be said: to which request, to an undo, with an id.
    ///
    /// # Errors
    /// Those of [`deliver`](Self::deliver).
    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, %instance, %step), err(level = "debug"))]
    pub async fn deliver_answer(
        &self,
        instance: &str,
        step: &str,
        answer: Answer,
    ) -> Result<Delivery> {
        self.core.deliver(instance, step, answer).await
    }

    /// Does what can be done now about an instance: for programs, and tests, that have no worker.
    ///
    /// # Errors
    /// [`is_not_found`](crate::Error::is_not_found), [`Error::Pruned`](crate::Error::Pruned),
    /// [`Error::Unreadable`](crate::Error::Unreadable) when the saga's own code fails on it.
    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, %instance), err(level = "debug"))]
    pub async fn drive(&self, instance: &str) -> Result<()> {
        self.core.advance(instance).await
    }
}
