//! [`TopologyError`]: what can be wrong with a saga.

use std::fmt;

/// Everything that is wrong with a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyErrors {
    saga: &'static str,
    errors: Vec<TopologyError>,
}

impl TopologyErrors {
    pub(crate) fn new(saga: &'static str, errors: Vec<TopologyError>) -> Self {
        Self { saga, errors }
    }

    /// The mistakes, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &TopologyError> {
        self.errors.iter()
    }

    /// Whether this is one of the mistakes.
    #[must_use]
    pub fn contains(&self, error: &TopologyError) -> bool {
        self.errors.contains(error)
    }

    /// How many there are: at least one.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.errors.len()
    }
}

impl fmt::Display for TopologyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "saga {:?} cannot run:", self.saga)?;
        for error in &self.errors {
            write!(f, "\n- {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TopologyErrors {}

/// One thing that is wrong with a saga.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {}
