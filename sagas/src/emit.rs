//! [`Emit`]: the requests a step decides to make.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use mire_client::{EventData, EventKind};
use serde_json::Value;

use crate::topology::{Fault, Request};

/// The requests that a step makes: one, several or none. An effect fulfils each; one without an effect goes to the
/// outbox, for somebody else to answer.
///
/// `R` says which requests these are, so that [`build`](crate::SagaBuilder::build) can make sure that somebody sees to
/// them. Plain `Emit` says nothing, and takes any.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{Emit, State};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize, EventData)]
/// #[event_data(event_type = "payment.capture")]
/// struct CapturePayment {
///     cents: i64,
/// }
///
/// # struct Order { cents: i64, slow_bank: bool }
/// fn pay(State(order): State<Order>) -> Emit<CapturePayment> {
///     let emit = Emit::event(CapturePayment { cents: order.cents });
///     if order.slow_bank {
///         return emit.timeout(Duration::from_secs(3600));
///     }
///     emit
/// }
/// ```
///
/// What is not said in the type cannot be made:
///
/// ```compile_fail,E0277
/// # use mire_client::EventData;
/// # use mire_sagas::Emit;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "payment.capture")]
/// # struct CapturePayment {}
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "payment.refund")]
/// # struct RefundPayment {}
/// fn pay() -> Emit<CapturePayment> {
///     Emit::event(RefundPayment {})
/// }
/// ```
#[must_use]
pub struct Emit<R = AnyRequest> {
    pub(crate) requests: Result<Vec<Request>, Fault>,
    pub(crate) timeout: Option<Duration>,
    of: PhantomData<fn() -> R>,
}

/// Requests of whatever type: what a plain [`Emit`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyRequest;

impl<R> Emit<R> {
    /// One request.
    pub fn event<E: EventData>(request: E) -> Self
    where
        R: Accepts<E>,
    {
        Self::many([request])
    }

    /// Several requests, made together; map their answers with
    /// [`on_each_response`](crate::Task::on_each_response).
    pub fn many<E: EventData>(requests: impl IntoIterator<Item = E>) -> Self
    where
        R: Accepts<E>,
    {
        Self {
            requests: requests.into_iter().map(|r| encode(&r)).collect(),
            timeout: None,
            of: PhantomData,
        }
    }

    /// No request: there is nothing to do. The step has no output then; ask for it with `Option<Output<T>>`.
    pub fn none() -> Self {
        Self {
            requests: Ok(Vec::new()),
            timeout: None,
            of: PhantomData,
        }
    }

    /// How long to wait for the answers, instead of what the step says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The requests as they will be stored: type and data.
    ///
    /// # Errors
    /// When one of them cannot be JSON.
    pub fn requests(&self) -> Result<Vec<(&str, &Value)>, String> {
        let requests = self.requests.as_ref().map_err(ToString::to_string)?;
        Ok(requests
            .iter()
            .map(|r| (r.kind.as_str(), &r.data))
            .collect())
    }
}

impl<R> fmt::Debug for Emit<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit")
            .field("requests", &self.requests)
            .field("timeout", &self.timeout)
            .finish()
    }
}

fn encode<E: EventData>(request: &E) -> Result<Request, Fault> {
    let kind = request.kind().event_type;
    Ok(Request {
        kind: kind.to_owned(),
        data: to_value(request).map_err(|e| Fault(format!("request {kind}: {e}")))?,
    })
}

/// The stored form of an event, as a tree.
pub(crate) fn to_value<E: EventData>(event: &E) -> Result<Value, String> {
    let json = event.to_json().map_err(|e| e.to_string())?;
    serde_json::from_str(json.as_str()).map_err(|e| e.to_string())
}

/// Which requests an [`Emit`] can make: those of one [`EventData`] type, or any.
#[allow(private_bounds)] // sealed
pub trait Requests: RequestKinds {}

impl<E: EventData> Requests for E {}
impl Requests for AnyRequest {}

/// That an [`Emit`] of this type takes requests of type `E`.
#[diagnostic::on_unimplemented(
    message = "an `Emit<{Self}>` makes no request of type `{E}`",
    note = "return `Emit<{E}>`, or plain `Emit` where several types are possible"
)]
pub trait Accepts<E>: Requests {}

impl<E: EventData> Accepts<E> for E {}
impl<E: EventData> Accepts<E> for AnyRequest {}

pub(crate) trait RequestKinds: 'static {
    /// None: whichever.
    const KINDS: Option<&'static [EventKind]>;
}

impl<E: EventData> RequestKinds for E {
    const KINDS: Option<&'static [EventKind]> = Some(E::KINDS);
}

impl RequestKinds for AnyRequest {
    const KINDS: Option<&'static [EventKind]> = None;
}
