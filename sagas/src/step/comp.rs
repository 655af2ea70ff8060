//! [`comp`] and [`Comp`]: how a step is undone.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use mire_client::EventData;

use super::draft::{ActionDraft, Of, UndoDraft};
use super::{Requesting, Waits};
use crate::decide::{Asks, Decide};
use crate::emit::AnyRequest;
use crate::extract::InUndo;
use crate::handler::{Effect, EffectDraft};
use crate::response::{AsEvent, Decode, confirming};
use crate::retry::RetryPolicy;
use crate::saga::Saga;

/// The undo of a step that is being declared, for [`Task::compensate`](crate::Task::compensate).
#[must_use]
pub struct Comp<S, K> {
    draft: UndoDraft,
    kind: Of<S, K>,
}

/// The undo of a step. `undo` decides like a step's decide, sees the step's own output, and may ask for the
/// [`Cause`](crate::Cause).
///
/// An undo that fails, once its effect's retries are used up, leaves the instance in need of an operator.
///
/// ```
/// # use mire_client::EventData;
/// # use serde::{Deserialize, Serialize};
/// use mire_sagas::{Cause, Emit, Output};
///
/// # #[derive(Serialize, Deserialize)]
/// # struct Settled { payment: String }
/// # #[derive(Serialize, Deserialize, EventData)]
/// # #[event_data(event_type = "payment.refund")]
/// # struct RefundPayment { payment: String, reason: String }
/// fn refund(Output(settled): Output<Settled>, cause: Cause) -> Emit<RefundPayment> {
///     Emit::event(RefundPayment { payment: settled.payment, reason: cause.to_string() })
/// }
/// ```
pub fn comp<S, H, Args>(undo: H) -> Comp<S, H::Kind>
where
    S: Saga,
    H: Decide<S, InUndo, Args>,
{
    Comp {
        draft: UndoDraft {
            action: ActionDraft::new::<S, InUndo, Args, H>(undo),
            even_if_active: false,
        },
        kind: PhantomData,
    }
}

impl<S: Saga, K> Comp<S, K> {
    /// Undoes the step also when it has begun and nobody knows whether it had an effect: when it timed out, failed or
    /// was abandoned. Its output may not be known then: ask for `Option<Output<T>>`.
    pub fn even_if_active(mut self) -> Self {
        self.draft.even_if_active = true;
        self
    }

    pub(crate) fn into_draft(self) -> UndoDraft {
        self.draft
    }
}

impl<S: Saga, K: Waits> Comp<S, K> {
    /// How long to wait for the answers, from when the undo began. Then it has failed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.draft.action.timeout = Some(timeout);
        self
    }
}

impl<S: Saga, K: Requesting> Comp<S, K> {
    /// Fulfils the requests of the type that the effect takes as [`Req`](crate::Req).
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

    /// Takes only answers of this type. If none is said, every answer will do.
    pub fn on_response<E: EventData>(mut self) -> Self {
        self.draft.action.answers = Some(<E as Decode<AsEvent>>::answers());
        self.draft.action.respond = confirming::<E>();
        self
    }
}

impl<S: Saga, O> Comp<S, Asks<AnyRequest, O>> {
    /// Says of an undo that returns a plain [`Emit`](crate::Emit) that it makes requests of this type.
    pub fn emits<R: EventData>(mut self) -> Self {
        self.draft.action.emits.add(R::KINDS);
        self
    }
}

impl<S, K> fmt::Debug for Comp<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comp")
            .field("even_if_active", &self.draft.even_if_active)
            .finish_non_exhaustive()
    }
}
