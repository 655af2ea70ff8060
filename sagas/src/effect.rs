//! [`EffectError`]: how an effect failed.

use std::fmt;

/// How an effect failed. Any error turns into a transient one with `?`; say [`permanent`](Self::permanent) where trying
/// again is no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectError {
    message: String,
    permanent: bool,
}

impl EffectError {
    /// May succeed when tried again.
    pub fn transient(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            permanent: false,
        }
    }

    /// Will not succeed when tried again: fails the step at once, whatever its retry policy.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            permanent: true,
        }
    }

    /// Whether trying again is no use.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// What happened, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// An error as a history can take it: not too long, and without what JSON in the database cannot hold.
pub(crate) fn brief(text: &str) -> String {
    const MOST: usize = 4000;
    text.chars().filter(|c| *c != '\0').take(MOST).collect()
}

impl fmt::Display for EffectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for EffectError {
    fn from(error: E) -> Self {
        Self::transient(error.to_string())
    }
}
