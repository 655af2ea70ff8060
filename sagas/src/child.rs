//! [`child`]: a step that starts an instance of another saga and waits for its end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decide::{Awaits, Decide};
use crate::extract::InStep;
use crate::history::Outcome;
use crate::saga::Saga;
use crate::step::Task;
use crate::topology::{Refusal, RespondFn, Response};

/// How the instance of another saga ended that a [`child`] step has started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildEnded {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it turned back, if it did.
    #[serde(default)]
    pub error: Option<String>,
    /// The outputs of its steps, by the steps' names.
    #[serde(default)]
    pub outputs: serde_json::Map<String, Value>,
}

impl ChildEnded {
    /// For testing what asks for one.
    #[must_use]
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            error: None,
            outputs: serde_json::Map::new(),
        }
    }
}

/// A step that starts an instance of saga `C` and waits for its end; `decide` returns the [`Start`](crate::Start). Its
/// output is [`ChildEnded`].
///
/// A child that ends in any other way than completed fails the step, unless
/// [`any_outcome`](Task::any_outcome) is said. An undo of the step is given the child's end, but does not undo the
/// child: what the child did, it has undone itself, or it has completed.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{ChildEnded, Output, Saga, SagaBuilder, Start, State, child, task};
/// # struct Shipping;
/// # impl Saga for Shipping {
/// #     type State = String;
/// #     const NAME: &'static str = "shipping";
/// #     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> { saga.step("ship", task(|| 1).terminal_success()) }
/// # }
///
/// fn ship(State(order): State<String>) -> Start<Shipping> {
///     Start::new(format!("{order}/parcel"), order)
/// }
///
/// fn close(Output(shipped): Output<ChildEnded>) -> String {
///     format!("{:?}", shipped.outcome)
/// }
///
/// struct Selling;
/// impl Saga for Selling {
///     type State = String;
///     const NAME: &'static str = "selling";
///     fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
///         saga.step("ship", child(ship))
///             .step("close", task(close).after("ship").terminal_success())
///     }
/// }
/// # Selling::topology()?;
/// # Ok::<(), mire_sagas::TopologyErrors>(())
/// ```
pub fn child<S, C, H, Args>(decide: H) -> Task<S, Awaits<C>>
where
    S: Saga,
    C: Saga,
    H: Decide<S, InStep, Args, Kind = Awaits<C>>,
{
    crate::step::task(decide)
}

/// What a child's end comes to.
pub(crate) fn mapped<O: Serialize>(
    ended: RespondFn,
    map: impl Fn(ChildEnded) -> O + Send + Sync + 'static,
) -> RespondFn {
    Arc::new(move |response| {
        let ended = ChildEnded::deserialize(ended(response)?)
            .map_err(|e| Refusal::Unreadable(e.to_string()))?;
        serde_json::to_value(map(ended)).map_err(|e| Refusal::Unreadable(e.to_string()))
    })
}

/// Reads how a child ended.
pub(crate) fn ended(response: &Response, any_outcome: bool) -> Result<Value, Refusal> {
    let ended = ChildEnded::deserialize(&response.data)
        .map_err(|e| Refusal::Unreadable(format!("it is no end of a saga: {e}")))?;
    if any_outcome || ended.outcome == Outcome::Completed {
        return Ok(response.data.clone());
    }
    let error = ended.error.map(|e| format!(": {e}")).unwrap_or_default();
    let outcome = serde_json::to_value(ended.outcome).unwrap_or_default();
    Err(Refusal::Failed(format!(
        "the child ended {}{error}",
        outcome.as_str().unwrap_or("otherwise")
    )))
}
