//! The one error type: an opaque [`Error`] with predicates for what callers branch on. It keeps the SQLSTATE and
//! its source.

mod driver;

use std::sync::Arc;

use serde::Deserialize;

use crate::sqlstate;

pub(crate) use driver::{Doing, from_connect, from_driver, lost_connection};

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, boxed: what user code (upcasters, TLS set-up) may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Something went wrong. Ask the predicates ([`is_conflict`](Error::is_conflict), …) or match on [`kind`](Error::kind).
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Inner>);

#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
struct Inner {
    kind: ErrorKind,
    sqlstate: Option<String>,
    #[source]
    source: Option<BoxError>,
}

/// A version conflict, as the database found it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Conflict {
    /// The stream that is not where it was expected to be.
    pub stream: String,
    /// The expected version: 0 must not exist, n exactly n, -1 must exist.
    pub expected: Option<i64>,
    /// The version found; 0 when the stream does not exist.
    pub actual: Option<i64>,
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stream is not at the expected version (MI001). Nothing was written.
    #[error("version conflict on stream {:?}: expected {}, actual {}", .0.stream, shown(&.0.expected), shown(&.0.actual))]
    Conflict(Conflict),
    /// The stream does not exist (MI002, or found while loading).
    #[error("stream {stream:?} does not exist")]
    NotFound {
        /// The stream.
        stream: String,
    },
    /// The stream has been deleted (MI005, or found while loading).
    #[error("stream {stream:?} has been deleted")]
    Deleted {
        /// The stream.
        stream: String,
    },
    /// The lease has been taken over or has expired (MI003).
    #[error("lease lost: {reason}")]
    LeaseLost {
        /// Which, and how it was noticed.
        reason: String,
    },
    /// The input was refused (MI004, or by this client before it was sent). Nothing was written.
    #[error("refused: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// An attempt to change history (MI006).
    #[error("history cannot be changed: {reason}")]
    AppendOnly {
        /// What the database said.
        reason: String,
    },
    /// The feed cannot be read here (MI007).
    #[error("the feed cannot be read here: {reason}")]
    FeedUnsafe {
        /// What the database said.
        reason: String,
    },
    /// There is no such instance of that saga (MI008).
    #[error("no such saga instance: {reason}")]
    SagaNotFound {
        /// What the database said.
        reason: String,
    },
    /// What was asked of a saga's instance makes no sense in the status it is in (MI009). Nothing was written.
    #[error("the saga's instance is in another status: {reason}")]
    SagaState {
        /// What the database said.
        reason: String,
    },
    /// The connection ended between a write and its answer: it may or may not have happened.
    #[error("outcome unknown: the connection ended before the answer to {what} arrived")]
    OutcomeUnknown {
        /// What was sent.
        what: String,
    },
    /// Somebody's open transaction sits on the stream for longer than the store waits. Nothing was written.
    #[error("stream {stream:?} is held by another transaction")]
    Busy {
        /// The stream.
        stream: String,
    },
    /// No connection could be had. Nothing was sent, or it was a read.
    #[error("no connection to the database: {reason}")]
    Connection {
        /// Why.
        reason: String,
    },
    /// The database raised another error.
    #[error("the database says: {reason}")]
    Database {
        /// Its message, and its hint if there was one.
        reason: String,
    },
    /// An event, a snapshot or metadata could not be turned into JSON.
    #[error("cannot encode {what}")]
    Encode {
        /// What it was.
        what: String,
    },
    /// A stored event, snapshot or answer could not be read as the type asked for.
    #[error("cannot decode {what}")]
    Decode {
        /// What it was.
        what: String,
    },
    /// What was loaded is not the whole stream in order: it would be wrong to go on with it.
    #[error("stream {stream:?} cannot be rebuilt: {reason}")]
    Hydration {
        /// The stream.
        stream: String,
        /// What is missing or out of order.
        reason: String,
    },
    /// The store's epoch has changed: history may have forked (point-in-time recovery, failover that lost commits).
    #[error(
        "the store's epoch changed from {from} to {to}: positions handled so far may belong to a history that no longer \
         exists; check the read model, then start again with the new epoch"
    )]
    EpochChanged {
        /// The epoch this reader had started in.
        from: i64,
        /// The epoch it met.
        to: i64,
    },
    /// A subscription has not handled a position in time.
    #[error(
        "subscription {subscription:?} has not handled position {position} yet: it is at {checkpoint}"
    )]
    Behind {
        /// The subscription.
        subscription: String,
        /// The position that was waited for.
        position: i64,
        /// What it has handled.
        checkpoint: i64,
    },
    /// Events reached a projection in an order that no store may hand out: stop and find out why.
    #[error("events of stream {stream:?} are out of order: {reason}")]
    Disorder {
        /// The stream.
        stream: String,
        /// What was expected and what came.
        reason: String,
    },
    /// The database is not ready for this client; the message says what to run.
    #[error("{reason}")]
    Setup {
        /// What is missing, and what to run.
        reason: String,
    },
    /// The configuration makes no sense.
    #[error("configuration: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The store was shut down, or the runtime it worked on has ended, before this was sent.
    #[error("the store has been shut down")]
    Closed,
}

fn shown(version: &Option<i64>) -> String {
    match version {
        Some(-1) => "some version".into(),
        Some(n) => n.to_string(),
        None => "unknown".into(),
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(Inner {
            kind,
            sqlstate: None,
            source: None,
        }))
    }

    pub(crate) fn with_source(kind: ErrorKind, source: impl Into<BoxError>) -> Self {
        Self(Arc::new(Inner {
            kind,
            sqlstate: None,
            source: Some(source.into()),
        }))
    }

    /// An error the database reported in a result row instead of raising it.
    pub(crate) fn reported(kind: ErrorKind, sqlstate: &str) -> Self {
        Self(Arc::new(Inner {
            kind,
            sqlstate: Some(sqlstate.into()),
            source: None,
        }))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The SQLSTATE, if the database was asked and objected.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The version conflict, if it is one.
    #[must_use]
    pub fn conflict(&self) -> Option<&Conflict> {
        match self.kind() {
            ErrorKind::Conflict(conflict) => Some(conflict),
            _ => None,
        }
    }

    /// The stream is not at the expected version: load again and decide again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.kind(), ErrorKind::Conflict(_))
    }

    /// Nothing happened and the very same call may be repeated blindly: serialization failure, deadlock, a lock that
    /// was not to be had, no connection. A conflict is not among them: its decision is stale. Nor is a server that was
    /// reached and does not let this client in (a wrong password, no such database).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ErrorKind::Busy { .. } => true,
            ErrorKind::Connection { .. } => self.sqlstate().is_none_or(sqlstate::may_pass),
            _ => matches!(
                self.sqlstate(),
                Some(
                    sqlstate::SERIALIZATION_FAILURE
                        | sqlstate::DEADLOCK_DETECTED
                        | sqlstate::LOCK_NOT_AVAILABLE
                        | sqlstate::TOO_MANY_CONNECTIONS
                )
            ),
        }
    }

    /// The write may or may not have happened. Repeating it is sound only with the same event ids at an expected
    /// version of 0 or more (which is how [`EventStore::save`](crate::EventStore::save) writes).
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self.kind(), ErrorKind::OutcomeUnknown { .. })
    }

    /// The lease has been taken over or has expired.
    #[must_use]
    pub fn is_lease_lost(&self) -> bool {
        matches!(self.kind(), ErrorKind::LeaseLost { .. })
    }

    /// The stream does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind(), ErrorKind::NotFound { .. })
    }

    /// The stream has been deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        matches!(self.kind(), ErrorKind::Deleted { .. })
    }

    /// The input was refused.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self.kind(), ErrorKind::Invalid { .. })
    }

    /// Another transaction sat on the stream for too long.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.kind(), ErrorKind::Busy { .. })
    }

    /// The feed cannot be read here.
    #[must_use]
    pub fn is_feed_unsafe(&self) -> bool {
        matches!(self.kind(), ErrorKind::FeedUnsafe { .. })
    }

    /// There is no such instance of that saga.
    #[must_use]
    pub fn is_saga_not_found(&self) -> bool {
        matches!(self.kind(), ErrorKind::SagaNotFound { .. })
    }

    /// What was asked of a saga's instance makes no sense in the status it is in.
    #[must_use]
    pub fn is_saga_state(&self) -> bool {
        matches!(self.kind(), ErrorKind::SagaState { .. })
    }

    /// What was loaded is not the whole stream in order.
    #[must_use]
    pub fn is_hydration(&self) -> bool {
        matches!(self.kind(), ErrorKind::Hydration { .. })
    }

    /// A stored event, snapshot or answer could not be read as the type asked for.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        matches!(self.kind(), ErrorKind::Decode { .. })
    }

    /// The event's type is none that the type asked for knows, or of a schema version it does not know.
    pub(crate) fn is_unknown_event(&self) -> bool {
        self.is_decode()
            && self
                .0
                .source
                .as_ref()
                .is_some_and(|source| source.is::<crate::event::UnknownEvent>())
    }

    /// The store's epoch has changed.
    #[must_use]
    pub fn is_epoch_changed(&self) -> bool {
        matches!(self.kind(), ErrorKind::EpochChanged { .. })
    }

    /// A subscription has not handled a position in time.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        matches!(self.kind(), ErrorKind::Behind { .. })
    }

    /// Events reached a projection out of order or with a gap.
    #[must_use]
    pub fn is_disorder(&self) -> bool {
        matches!(self.kind(), ErrorKind::Disorder { .. })
    }

    /// The extension is missing, too old, or not granted to this role; the message says what to run.
    #[must_use]
    pub fn is_setup(&self) -> bool {
        matches!(self.kind(), ErrorKind::Setup { .. })
    }
}
