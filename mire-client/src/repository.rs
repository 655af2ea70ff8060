//! [`Repository`]: load, decide, save, and, if asked, decide again when somebody else was faster.

mod in_turn;

use std::fmt::Display;

use tracing::instrument;

use crate::aggregate::{Aggregate, AggregateRoot, Command};
use crate::error::{Error, Result};
use crate::event::Metadata;
use crate::store::{EventStore, Recorded};
use in_turn::Turns;

/// Sends commands to aggregates of one kind.
///
/// ```no_run
/// # use mire_client::{Command, EventStore, Repository};
/// # async fn f<C: Command>(store: EventStore, command: C) -> Result<(), mire_client::SendError<C::Rejection>> {
/// let accounts = Repository::<C::Aggregate>::new(store).retry_conflicts(3);
/// let sent = accounts.send("alice", &command).await?;
/// println!("now at version {}", sent.aggregate.version());
/// # Ok(()) }
/// ```
#[must_use]
pub struct Repository<A: Aggregate> {
    store: EventStore,
    retries: u32,
    metadata: Option<Metadata>,
    turns: Option<Turns<A>>,
}

impl<A: Aggregate> std::fmt::Debug for Repository<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository")
            .field("category", &A::CATEGORY)
            .field("retries", &self.retries)
            .field("in_turn", &self.turns.is_some())
            .finish_non_exhaustive()
    }
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            retries: self.retries,
            metadata: self.metadata.clone(),
            turns: self.turns.clone(),
        }
    }
}

/// What came of a command.
#[non_exhaustive]
pub struct Sent<A: Aggregate> {
    /// The aggregate after it.
    pub aggregate: AggregateRoot<A>,
    /// What was recorded; no ids when the command decided that nothing shall happen.
    pub recorded: Recorded,
    /// How many times it was decided again because somebody else was faster.
    pub retries: u32,
}

impl<A: Aggregate> std::fmt::Debug for Sent<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent")
            .field("recorded", &self.recorded)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// Why a command did not go through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<R> {
    /// The aggregate rejected it.
    #[error("rejected")]
    Rejected(R),
    /// The store could not load or save.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<R> SendError<R> {
    /// The rejection, if it is one.
    #[must_use]
    pub fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Store(_) => None,
        }
    }

    /// The store's error, if it is one.
    #[must_use]
    pub fn store(&self) -> Option<&Error> {
        match self {
            Self::Store(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

impl<A: Aggregate> Repository<A> {
    /// A repository that reports conflicts and retries nothing.
    pub fn new(store: EventStore) -> Self {
        Self {
            store,
            retries: 0,
            metadata: None,
            turns: None,
        }
    }

    /// After a conflict loads again and lets the command decide again, at most so many times.
    pub fn retry_conflicts(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    /// For streams that many in this process send commands to at once: those who send through this repository (or its
    /// clones) to one aggregate at a time decide one after the other, each on what the ones before decided, and what was
    /// decided while an append was in flight goes together as the next one. So they neither conflict with each other nor
    /// load before each command; other processes they meet as always ([`retry_conflicts`](Self::retry_conflicts)).
    ///
    /// [`Sent::recorded`] then has as its position that of the last event which went along, its own or a later one.
    ///
    /// ```no_run
    /// # use mire_client::{Aggregate, Command, EventStore};
    /// # async fn f<C: Command>(store: EventStore, commands: Vec<C>) -> mire_client::Result<()> where C::Aggregate: Clone {
    /// let seats = store.repository::<C::Aggregate>().retry_conflicts(3).in_turn();
    /// let sent = commands.iter().map(|command| seats.send("premiere", command));
    /// futures_util::future::join_all(sent).await; // few commits, no conflicts
    /// # Ok(()) }
    /// ```
    pub fn in_turn(mut self) -> Self
    where
        A: Clone,
    {
        self.turns = Some(Turns::new());
        self
    }

    /// Metadata for what its commands record.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Loads the aggregate (a new one when its stream does not exist), lets the command decide, saves what it decided.
    ///
    /// # Errors
    /// [`SendError::Rejected`] by the command; [`SendError::Store`] for those of [`EventStore::load`] and
    /// [`EventStore::save`], a conflict after the last retry among them. After an
    /// [unknown outcome](Error::is_outcome_unknown), or when this future was dropped, the command may have been carried out:
    /// sent again it decides anew, on a state that may have its own events in it, and records new ones. Where that must not
    /// happen twice let the aggregate recognise the command (by an id of its own, say), or load, execute and save oneself:
    /// saving the same [`AggregateRoot`] again is safe.
    // No `err`: a rejection is the domain's, and may say what belongs into no log.
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id, retries))]
    pub async fn send<C>(
        &self,
        id: impl Display,
        command: &C,
    ) -> Result<Sent<A>, SendError<C::Rejection>>
    where
        C: Command<Aggregate = A>,
    {
        if let Some(turns) = &self.turns {
            let (metadata, retry) = (self.metadata.as_ref(), self.retries);
            let id = id.to_string();
            return turns
                .send(&self.store, &id, command, metadata, retry)
                .await
                .inspect(|sent| {
                    tracing::Span::current().record("retries", sent.retries);
                });
        }
        let mut retries = 0;
        loop {
            let mut aggregate = self.store.load_or_default::<A>(&id).await?;
            if let Some(metadata) = &self.metadata {
                aggregate.set_metadata(metadata.clone());
            }
            aggregate.execute(command).map_err(SendError::Rejected)?;
            match self.store.save(&mut aggregate).await {
                Ok(recorded) => {
                    return Ok(Sent {
                        aggregate,
                        recorded,
                        retries,
                    });
                }
                Err(error) if error.is_conflict() && retries < self.retries => {
                    retries += 1;
                    tracing::Span::current().record("retries", retries);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl EventStore {
    /// A repository of aggregates of this kind.
    pub fn repository<A: Aggregate>(&self) -> Repository<A> {
        Repository::new(self.clone())
    }
}
