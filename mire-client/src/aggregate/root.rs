//! [`AggregateRoot`]: an aggregate at work: its state, the version it was loaded at, and the events it has yet to save.

use std::collections::VecDeque;
use std::fmt::Display;

use uuid::Uuid;

use super::fate::{Ending, Fate};
use super::{Aggregate, Command, stream_name};
use crate::error::{Error, ErrorKind, Result};
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
    /// The version that is known to be committed.
    version: i64,
    /// What is not known to be committed: what is staged comes first.
    pending: Vec<Pending<A::Event>>,
    /// What was saved in a transaction whose end has yet to be taken note of.
    staged: Option<Staged>,
    /// Sizes of the leading groups of pending events that were sent and whose answer never came. Each may have landed, as
    /// a whole: sent again exactly as it was, it is recognised.
    in_doubt: VecDeque<usize>,
    metadata: Option<Metadata>,
}

/// The leading pending events, sent as part of a transaction.
struct Staged {
    fate: Fate,
    /// Sizes of the groups they were sent in.
    groups: Vec<usize>,
    events: usize,
    /// The stream's version after them.
    version: i64,
}

impl<A: Aggregate> std::fmt::Debug for AggregateRoot<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AggregateRoot")
            .field("stream", &self.stream)
            .field("version", &self.version())
            .field("pending", &self.pending().len())
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
            staged: None,
            in_doubt: VecDeque::new(),
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
    /// Saved in a transaction it is the version that transaction sees, until it ends: rolled back, it is what it was before.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.staged_for_good()
            .map_or(self.version, |staged| staged.version)
    }

    /// What has been recorded and not saved. A failed save leaves it as it is, and what was saved in a transaction that
    /// did not commit is pending again.
    #[must_use]
    pub fn pending(&self) -> &[Pending<A::Event>] {
        let staged = self.staged_for_good().map_or(0, |staged| staged.events);
        &self.pending[staged..]
    }

    /// Metadata for the events recorded from now on.
    pub fn set_metadata(&mut self, metadata: Metadata) -> &mut Self {
        self.metadata = Some(metadata);
        self
    }

    /// Applies an event to the state and keeps it for the next save. Returns the id it will have.
    pub fn record(&mut self, event: A::Event) -> Uuid {
        self.settle();
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

    /// The pending events as they are sent: those in doubt in the groups they went in before, then the rest together.
    pub(crate) fn to_new_events(&self) -> Result<Vec<Vec<NewEvent>>> {
        let mut start = self.staged_for_good().map_or(0, |staged| staged.events);
        let mut groups = Vec::new();
        let mut end = 0;
        for size in self.in_doubt.iter().copied().chain([self.pending.len()]) {
            end = (end + size).min(self.pending.len());
            if start < end {
                groups.push(&self.pending[start..end]);
                start = end;
            }
        }
        groups
            .into_iter()
            .map(|group| {
                group
                    .iter()
                    .map(|p| NewEvent::build(p.id, &p.event, p.metadata.as_ref()))
                    .collect()
            })
            .collect()
    }

    /// The first group of pending events is on its way; from here on it is in doubt. Whether it had been before.
    pub(crate) fn sending(&mut self, events: usize) -> bool {
        let before = !self.in_doubt.is_empty();
        if !before {
            self.in_doubt.push_back(events);
        }
        before
    }

    /// The first group has been saved.
    pub(crate) fn saved(&mut self, events: usize, version: i64) {
        self.version = version;
        self.pending.drain(..events);
        self.in_doubt.pop_front();
    }

    /// The first group has not been saved, and is not on its way any more; so nothing behind it can be.
    pub(crate) fn not_saved(&mut self) {
        self.in_doubt.clear();
    }

    /// A group has been sent as part of a transaction.
    pub(crate) fn stage(&mut self, fate: &Fate, events: usize, version: i64) {
        let staged = self.staged.get_or_insert_with(|| Staged {
            fate: fate.clone(),
            groups: Vec::new(),
            events: 0,
            version,
        });
        staged.groups.push(events);
        staged.events += events;
        staged.version = version;
    }

    /// Takes note of how the transaction ended that this aggregate was saved in. If it has not ended this aggregate may
    /// be used further in that transaction, which is given, and nowhere else.
    pub(crate) fn settle_for(&mut self, transaction: Option<&Fate>) -> Result<()> {
        self.settle();
        match (&self.staged, transaction) {
            (Some(staged), Some(fate)) if staged.fate.is(fate) => Ok(()),
            (Some(_), _) => Err(self.still_open()),
            (None, _) => Ok(()),
        }
    }

    /// Nothing of its state may ever be rolled back.
    pub(crate) fn check_committed(&self) -> Result<()> {
        let open = |staged: &Staged| staged.fate.ending() == Ending::Open;
        if self.staged.as_ref().is_some_and(open) {
            return Err(self.still_open());
        }
        if self.pending().is_empty() {
            return Ok(());
        }
        let (count, stream) = (self.pending().len(), &self.stream);
        Err(Error::new(ErrorKind::Invalid {
            reason: format!("{count} events of {stream:?} are not saved yet"),
        }))
    }

    fn still_open(&self) -> Error {
        Error::new(ErrorKind::Invalid {
            reason: format!(
                "{:?} was saved in a transaction that has not ended yet",
                self.stream
            ),
        })
    }

    fn settle(&mut self) {
        let ended = |staged: &mut Staged| staged.fate.ending() != Ending::Open;
        let Some(staged) = self.staged.take_if(ended) else {
            return;
        };
        match staged.fate.ending() {
            Ending::Committed => {
                self.version = staged.version;
                self.pending.drain(..staged.events);
                self.in_doubt.clear();
            }
            Ending::Unknown => self.in_doubt = staged.groups.into(),
            Ending::Undone | Ending::Open => {}
        }
    }

    /// What counts as saved: in a transaction that has committed or may still.
    fn staged_for_good(&self) -> Option<&Staged> {
        self.staged
            .as_ref()
            .filter(|staged| matches!(staged.fate.ending(), Ending::Open | Ending::Committed))
    }
}
