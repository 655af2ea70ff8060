//! What a writer expects of the stream it appends to.

/// The version a stream must have for an append to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExpectedVersion {
    /// Whatever it is. A lost answer leaves the outcome unknown.
    Any,
    /// The stream must not exist.
    NoStream,
    /// Exactly this version, 0 or more; 0 is the same as [`NoStream`](Self::NoStream).
    Exactly(i64),
    /// The stream must exist, at whatever version. A lost answer leaves the outcome unknown.
    Exists,
}

impl ExpectedVersion {
    /// As the database's functions take it.
    pub(crate) fn to_sql(self) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::NoStream => Some(0),
            Self::Exactly(version) => Some(version),
            Self::Exists => Some(-1),
        }
    }

    /// Whether sending the same events again answers as the first time: only where a slot in the stream is named.
    pub(crate) fn retry_is_safe(self) -> bool {
        self.to_sql().is_some_and(|version| version >= 0)
    }
}
