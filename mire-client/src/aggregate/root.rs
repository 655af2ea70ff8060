//! [`AggregateRoot`]: an aggregate at work: its state, the version it was loaded at, and the events it has yet to save.

use std::fmt::Display;

use uuid::Uuid;

use super::{Aggregate, Command, stream_name};
use crate::error::Result;
use crate::event::{Metadata, NewEvent};

/// An aggregate with its identity, version and pending events.
///
/// ```
/// # use mire_client::{Aggregate, AggregateRoot, EventData};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Serialize, Deserialize, EventData)]
/// # #[event_data(entity = "account")]
/// # enum AccountEvent { Deposited { cents: i64 } }
/// # #[derive(Debug, Default)]
/// # struct Account { cents: i64 }
/// # impl Aggregate for Account {
/// #     type Event = AccountEvent;
/// #     const CATEGORY: &'static str = "account";
/// #     fn apply(&mut self, e: &AccountEvent) { let AccountEvent::Deposited { cents } = e; self.cents += cents; }
/// # }
/// let mut account = AggregateRoot::<Account>::new("7");
/// account.record(AccountEvent::Deposited { cents: 500 });
/// assert_eq!(account.state().cents, 500);  // applied at once,
/// assert_eq!(account.version(), 0);        // saved by EventStore::save
/// assert_eq!(account.pending().len(), 1);
/// ```
pub struct AggregateRoot<A: Aggregate> {
    id: String,
    stream: String,
    state: A,
    version: i64,
    pending: Vec<Pending<A::Event>>,
    metadata: Option<Metadata>,
}

impl<A: Aggregate> std::fmt::Debug for AggregateRoot<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AggregateRoot")
            .field("stream", &self.stream)
            .field("version", &self.version)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// An event that has been recorded in memory and not saved yet. Its id is fixed from the start: saving it again after an
/// unknown outcome cannot store it twice.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pending<E> {
    /// The id it will be stored with.
    pub id: Uuid,
    /// The event.
    pub event: E,
    /// The metadata it will be stored with.
    pub metadata: Option<Metadata>,
}

impl<A: Aggregate> AggregateRoot<A> {
    /// A new aggregate that is not in the store yet: saving it demands that its stream does not exist.
    #[must_use]
    pub fn new(id: impl Display) -> Self {
        Self::at(id.to_string(), A::default(), 0)
    }

    pub(crate) fn at(id: String, state: A, version: i64) -> Self {
        Self {
            stream: stream_name::<A>(&id),
            id,
            state,
            version,
            pending: Vec::new(),
            metadata: None,
        }
    }

    /// Its id: the stream's name without the category.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its stream's name.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The state, pending events included.
    #[must_use]
    pub fn state(&self) -> &A {
        &self.state
    }

    /// The version in the store, as far as this aggregate knows: 0 before its first save; pending events not counted.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// What has been recorded and not saved. A failed save leaves it as it is.
    #[must_use]
    pub fn pending(&self) -> &[Pending<A::Event>] {
        &self.pending
    }

    /// Metadata for the events recorded from now on.
    pub fn set_metadata(&mut self, metadata: Metadata) -> &mut Self {
        self.metadata = Some(metadata);
        self
    }

    /// Applies an event to the state and keeps it for the next save. Returns the id it will have.
    pub fn record(&mut self, event: A::Event) -> Uuid {
        self.state.apply(&event);
        let id = Uuid::now_v7();
        self.pending.push(Pending {
            id,
            event,
            metadata: self.metadata.clone(),
        });
        id
    }

    /// Records several events, in order.
    pub fn record_many(&mut self, events: impl IntoIterator<Item = A::Event>) {
        for event in events {
            self.record(event);
        }
    }

    /// Lets a command decide on the state, and records what it decided. Returns how many events that was.
    ///
    /// # Errors
    /// The command's rejection; nothing is recorded then.
    pub fn execute<C: Command<Aggregate = A>>(
        &mut self,
        command: &C,
    ) -> Result<usize, C::Rejection> {
        let events = command.decide(&self.state)?;
        let count = events.len();
        self.record_many(events);
        Ok(count)
    }

    /// The state alone; pending events are lost.
    #[must_use]
    pub fn into_state(self) -> A {
        self.state
    }

    /// The pending events as they are sent.
    pub(crate) fn to_new_events(&self) -> Result<Vec<NewEvent>> {
        self.pending
            .iter()
            .map(|p| NewEvent::build(p.id, &p.event, p.metadata.as_ref()))
            .collect()
    }

    /// They have been saved.
    pub(crate) fn saved_up_to(&mut self, version: i64) {
        self.version = version;
        self.pending.clear();
    }
}
