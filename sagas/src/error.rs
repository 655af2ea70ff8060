//! [`Error`]: what runners and workers fail with.

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with an instance, or on the way to it. Ask the predicates ([`is_not_found`](Error::is_not_found), …).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database could not be reached, or refused what was asked.
    #[error(transparent)]
    Store(#[from] mire_client::Error),
    /// There is no such instance.
    #[error("saga {saga:?} has no instance {instance:?}")]
    NotFound {
        /// The saga.
        saga: String,
        /// The instance.
        instance: String,
    },
    /// The instance has ended, and its history has been pruned.
    #[error("the history of instance {instance:?} of saga {saga:?} has been pruned")]
    Pruned {
        /// The saga.
        saga: String,
        /// The instance.
        instance: String,
    },
    /// The saga has no step of that name.
    #[error("saga {saga:?} has no step {step:?}")]
    UnknownStep {
        /// The saga.
        saga: String,
        /// The step.
        step: String,
    },
    /// The database refused an item; nothing of it was written.
    #[error("refused: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else's transaction sits on the instance for too long. Nothing was written.
    #[error("instance {instance:?} of saga {saga:?} is held by another transaction")]
    Busy {
        /// The saga.
        saga: String,
        /// The instance.
        instance: String,
    },
    /// A stored history does not fit the facts or the topology that read it.
    #[error("instance {instance:?} of saga {saga:?} cannot be read: {reason}")]
    Unreadable {
        /// The saga.
        saga: String,
        /// The instance.
        instance: String,
        /// What does not fit.
        reason: String,
    },
    /// A state, a trigger, a response or a signal could not be turned into JSON.
    #[error("cannot encode {what}: {reason}")]
    Encode {
        /// What it was.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The instance had not ended when the time was up.
    #[error("instance {instance:?} of saga {saga:?} has not ended in time")]
    NotEnded {
        /// The saga.
        saga: String,
        /// The instance.
        instance: String,
    },
    /// The configuration makes no sense.
    #[error("configuration: {reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The runtime that the work was handed to has ended.
    #[error("the runtime that this was handed to has ended")]
    Closed,
}

impl Error {
    /// There is no such instance (also MI008).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Store(error) => error.is_saga_not_found(),
            _ => false,
        }
    }

    /// What was asked makes no sense in the status the instance is in (MI009), or for a pruned instance.
    #[must_use]
    pub fn is_state(&self) -> bool {
        match self {
            Self::Pruned { .. } => true,
            Self::Store(error) => error.is_saga_state(),
            _ => false,
        }
    }

    /// The input was refused.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        match self {
            Self::Invalid { .. } | Self::UnknownStep { .. } => true,
            Self::Store(error) => error.is_invalid(),
            _ => false,
        }
    }

    /// The instance had not ended in time.
    #[must_use]
    pub fn is_not_ended(&self) -> bool {
        matches!(self, Self::NotEnded { .. })
    }

    /// Nothing happened, and the same call may be repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// It may or may not have happened.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outcome_unknown())
    }

    pub(crate) fn is_setup(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_setup())
    }

    pub(crate) fn encode(what: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Encode {
            what,
            reason: error.to_string(),
        }
    }
}
