//! `start_on`: events that start instances.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use mire_client::{Aggregate, EventData, EventKind, RecordedEvent};

use super::SagaBuilder;
use crate::extract::Type;
use crate::response::is_called;
use crate::saga::{EncodedStart, Saga, Start};
use crate::topology::Fault;

/// Where an event comes from that may start an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    stream: &'a str,
}

impl<'a> Origin<'a> {
    /// An origin, for testing what asks for one.
    #[must_use]
    pub fn new(stream: &'a str) -> Self {
        Self { stream }
    }

    /// The stream that the event belongs to.
    #[must_use]
    pub fn stream(&self) -> &'a str {
        self.stream
    }

    /// The id of the aggregate that the event belongs to: the stream's name after its category.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.stream
            .split_once('-')
            .map_or(self.stream, |(_, id)| id)
    }
}

/// A kind of events that starts instances, without its types.
#[derive(Clone)]
pub(crate) struct StartOn {
    /// Only streams of this category; None: of any.
    pub(crate) category: Option<&'static str>,
    pub(crate) kinds: &'static [EventKind],
    pub(crate) event: Type,
    start: Arc<Correlate>,
}

type Correlate = dyn Fn(Event<'_>) -> Result<Option<EncodedStart>, Fault> + Send + Sync;

enum Event<'a> {
    Recorded(&'a RecordedEvent),
    InMemory(&'a (dyn Any + Send + Sync), Origin<'a>),
}

impl StartOn {
    fn new<S, E>(
        category: Option<&'static str>,
        start: impl Fn(&E, Origin<'_>) -> Option<Start<S>> + Send + Sync + 'static,
    ) -> Self
    where
        S: Saga,
        E: EventData,
    {
        let encode = move |event: &E, origin: Origin<'_>| {
            start(event, origin)
                .map(|start| start.or_trigger(event).encode())
                .transpose()
        };
        Self {
            category,
            kinds: E::KINDS,
            event: Type::of::<E>(),
            start: Arc::new(move |event| match event {
                Event::Recorded(recorded) => {
                    let event = recorded.decode().map_err(|e| Fault(e.to_string()))?;
                    encode(&event, Origin::new(&recorded.stream))
                }
                Event::InMemory(event, origin) => event
                    .downcast_ref()
                    .map_or(Ok(None), |event| encode(event, origin)),
            }),
        }
    }

    /// Whether this is about events of that type in that stream.
    pub(crate) fn is_about(&self, event_type: &str, stream: &str) -> bool {
        let category = stream
            .split_once('-')
            .map_or(stream, |(category, _)| category);
        self.category.is_none_or(|wanted| wanted == category)
            && self.kinds.iter().any(|kind| is_called(kind, event_type))
    }

    /// The instance that a stored event starts, if it does.
    pub(crate) fn start(&self, event: &RecordedEvent) -> Result<Option<EncodedStart>, Fault> {
        if !self.is_about(&event.event_type, &event.stream) {
            return Ok(None);
        }
        (self.start)(Event::Recorded(event))
    }

    /// The instance that an event starts which is just being appended to that stream, if it does.
    pub(crate) fn start_in_memory<E: EventData>(
        &self,
        event: &E,
        stream: &str,
    ) -> Result<Option<EncodedStart>, Fault> {
        if !self.is_about(event.kind().event_type, stream) {
            return Ok(None);
        }
        (self.start)(Event::InMemory(event, Origin::new(stream)))
    }
}

impl fmt::Debug for StartOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartOn")
            .field("category", &self.category)
            .field("event", &self.event.name)
            .finish_non_exhaustive()
    }
}

impl<S: Saga> SagaBuilder<S> {
    /// Starts an instance when an event of this aggregate is recorded for which `start` says so. The event is the
    /// instance's [`Trigger`](crate::Trigger).
    ///
    /// Derive the instance's id from the event or from where it comes: an event that is seen twice must not start two.
    ///
    /// ```
    /// # use mire_client::{Aggregate, EventData};
    /// # use serde::{Deserialize, Serialize};
    /// # use mire_sagas::{Saga, SagaBuilder, Start, task};
    /// # #[derive(Serialize, Deserialize, EventData)]
    /// # #[event_data(entity = "order")]
    /// # enum OrderEvent { Placed { item: String }, Closed }
    /// # #[derive(Default)]
    /// # struct Order;
    /// # impl Aggregate for Order {
    /// #     type Event = OrderEvent;
    /// #     const CATEGORY: &'static str = "order";
    /// #     fn apply(&mut self, _: &OrderEvent) {}
    /// # }
    /// # struct Booking;
    /// # impl Saga for Booking {
    /// # type State = String;
    /// # const NAME: &'static str = "booking";
    /// fn build(saga: SagaBuilder<Self>) -> SagaBuilder<Self> {
    ///     saga.start_on::<Order>(|event, order| match event {
    ///         OrderEvent::Placed { item } => Some(Start::new(order.id(), item.clone())),
    ///         _ => None,
    ///     })
    ///     .step("book", task(|| "booked").terminal_success())
    /// }
    /// # }
    /// # Booking::topology()?;
    /// # Ok::<(), mire_sagas::TopologyErrors>(())
    /// ```
    pub fn start_on<A: Aggregate>(
        mut self,
        start: impl Fn(&A::Event, Origin<'_>) -> Option<Start<S>> + Send + Sync + 'static,
    ) -> Self {
        let start_on = StartOn::new::<S, A::Event>(Some(A::CATEGORY), start);
        self.draft.starts.push(start_on);
        self
    }

    /// Starts an instance when an event of this type is recorded, in whatever stream, for which `start` says so.
    pub fn start_on_event<E: EventData>(
        mut self,
        start: impl Fn(&E, Origin<'_>) -> Option<Start<S>> + Send + Sync + 'static,
    ) -> Self {
        self.draft.starts.push(StartOn::new::<S, E>(None, start));
        self
    }
}
