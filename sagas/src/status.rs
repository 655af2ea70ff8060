//! [`SagaStatus`]: where an instance is, in one word.

use std::fmt;

/// Where an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SagaStatus {
    /// It goes forward, or waits for something.
    Running,
    /// It undoes what it has done.
    Compensating,
    /// Nobody drives it until an operator says so.
    Parked,
    /// An undo failed: an operator is needed.
    Intervention,
    /// Ended: every step that was to be done is done.
    Completed,
    /// Ended: a step failed, and what had been done is undone.
    Compensated,
    /// Ended: a terminal failure was reached, and what had been done is undone.
    Failed,
    /// Ended: cancelled, and what had been done is undone.
    Cancelled,
}

impl SagaStatus {
    /// Nothing more will happen to it by itself.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Compensated | Self::Failed | Self::Cancelled
        )
    }

    /// As the database's functions and views write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Parked => "parked",
            Self::Intervention => "intervention",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// None: none that this program knows.
    pub(crate) fn of(text: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Compensating,
            Self::Parked,
            Self::Intervention,
            Self::Completed,
            Self::Compensated,
            Self::Failed,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
    }
}

impl fmt::Display for SagaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
