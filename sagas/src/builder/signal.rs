//! [`Signal`]: what a signal from outside does to an instance.

use mire_client::EventData;

use super::SagaBuilder;
use crate::saga::Saga;

pub(crate) struct SignalDraft {
    pub(crate) name: String,
    pub(crate) does: SignalDraftAction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignalDraftAction {
    TriggersCompensation,
    RoutesTo(String),
}

/// A signal that is being declared: say what it does.
#[derive(Debug)]
#[must_use = "say what the signal does"]
pub struct Signal<S> {
    builder: SagaBuilder<S>,
    names: Vec<String>,
}

impl<S: Saga> SagaBuilder<S> {
    /// A signal that is an event: it is called like the event's type (each of them, for an enum).
    ///
    /// ```
    /// # use mire_client::EventData;
    /// # use serde::{Deserialize, Serialize};
    /// # use mire_sagas::{Emit, Saga, SagaBuilder, task};
    /// #[derive(Serialize, Deserialize, EventData)]
    /// #[event_data(event_type = "booking.cancel")]
    /// struct CancelBooking {
    ///     why: String,
    /// }
    ///
    /// # struct Booking;
    /// # impl Saga for Booking {
    /// # type State = String;
    /// # const NAME: &'static str = "booking";
    /// fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
    ///     saga.step("book", task(|| "booked").terminal_success())
    ///         .signal::<CancelBooking>()
    ///         .triggers_compensation()
    /// }
    /// # }
    /// # Booking::topology()?;
    /// # Ok::<(), mire_sagas::TopologyErrors>(())
    /// ```
    pub fn signal<E: EventData>(self) -> Signal<S> {
        let names = E::KINDS.iter().map(|kind| kind.event_type.to_owned());
        Signal {
            names: names.collect(),
            builder: self,
        }
    }

    /// A signal by its name.
    pub fn signal_named(self, name: impl Into<String>) -> Signal<S> {
        Signal {
            names: vec![name.into()],
            builder: self,
        }
    }
}

impl<S: Saga> Signal<S> {
    /// The instance turns back: what was done is undone.
    pub fn triggers_compensation(self) -> SagaBuilder<S> {
        self.does(&SignalDraftAction::TriggersCompensation)
    }

    /// The signal's data are the answer that the step waits for. One that comes early waits for its step.
    pub fn routes_to_step(self, step: impl Into<String>) -> SagaBuilder<S> {
        self.does(&SignalDraftAction::RoutesTo(step.into()))
    }

    fn does(self, does: &SignalDraftAction) -> SagaBuilder<S> {
        let Self { mut builder, names } = self;
        let signals = names.into_iter().map(|name| SignalDraft {
            name,
            does: does.clone(),
        });
        builder.draft.signals.extend(signals);
        builder
    }
}
