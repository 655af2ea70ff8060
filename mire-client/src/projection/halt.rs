//! Why a worker does not go on with what it has in hand.

use crate::error::Error;
use crate::sqlstate;

/// Why a partition's worker stops.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It was asked to.
    Stop,
    /// The partition is somebody else's.
    Lost,
    /// What is in hand may not be what the database thinks: take the partition anew and go on from its checkpoint.
    Restart(Error),
    /// The subscription has been paused; what is in hand is not to be handled.
    Paused,
    /// History has forked.
    Epoch(Error),
    /// There is no such subscription any more.
    Gone(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        if error.is_lease_lost() {
            Self::Lost
        } else if error.is_epoch_changed() {
            Self::Epoch(error)
        } else if error.sqlstate() == Some(sqlstate::UNDEFINED_OBJECT) {
            Self::Gone(error)
        } else {
            Self::Restart(error)
        }
    }
}

/// What kept some events from being handled.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Their handler failed.
    Handler(crate::BoxError),
    /// The database was not there: nobody's fault, and nothing happened.
    Outage(Error),
    /// There is no going on.
    Halt(Halt),
}

impl From<Halt> for Fault {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if error.is_retryable() {
            Self::Outage(error)
        } else {
            Self::Halt(error.into())
        }
    }
}
