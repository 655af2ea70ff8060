//! Folds a loaded stream, and trusts nothing: versions must be contiguous, complete, and all there.

use crate::aggregate::Aggregate;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{decode_stored, place_of, schema_of, undecodable};
use crate::json::JsonRef;

/// The first row's type: what is known about the stream.
const STREAM_ROW: &str = "$stream";
/// The type of the row that carries a snapshot.
const SNAPSHOT_ROW: &str = "$snapshot";

/// Reads a snapshot's state.
pub(crate) type ReadSnapshot<A> = fn(JsonRef<'_>) -> Result<A, serde_json::Error>;

/// A row of `load_stream`.
pub(crate) struct LoadedRow<'a> {
    pub(crate) version: i64,
    pub(crate) event_type: &'a str,
    pub(crate) data: JsonRef<'a>,
    pub(crate) metadata: Option<JsonRef<'a>>,
}

/// What the rows amount to.
#[derive(Debug)]
pub(crate) enum Hydrated<A> {
    /// There is no such stream.
    Missing,
    /// Its state and version.
    State(A, i64),
    /// The snapshot is of no use; without it the events before it are needed as well.
    UnusableSnapshot(String),
}

/// Folds the rows of `load_stream`, one after the other.
pub(crate) struct Hydrator<'s, A> {
    stream: &'s str,
    read_snapshot: Option<ReadSnapshot<A>>,
    state: A,
    head: Option<Head>,
    /// The version folded so far.
    at: i64,
    unusable_snapshot: Option<String>,
}

#[derive(serde::Deserialize)]
struct Head {
    #[serde(default)]
    version: i64,
    truncated_before: i64,
    deleted: bool,
}

impl<'s, A: Aggregate> Hydrator<'s, A> {
    pub(crate) fn new(stream: &'s str, read_snapshot: Option<ReadSnapshot<A>>) -> Self {
        Self {
            stream,
            read_snapshot,
            state: A::default(),
            head: None,
            at: 0,
            unusable_snapshot: None,
        }
    }

    /// Takes the next row.
    pub(crate) fn row(&mut self, row: &LoadedRow<'_>) -> Result<()> {
        if self.unusable_snapshot.is_some() {
            return Ok(());
        }
        match (&self.head, row.event_type) {
            (None, STREAM_ROW) => self.begin(row),
            (None, other) => {
                Err(self.broken(format!("the first row is {other:?}, not {STREAM_ROW:?}")))
            }
            (Some(_), SNAPSHOT_ROW) => {
                self.snapshot(row);
                Ok(())
            }
            (Some(_), _) => self.event(row),
        }
    }

    fn begin(&mut self, row: &LoadedRow<'_>) -> Result<()> {
        let mut head: Head = serde_json::from_slice(row.data.0)
            .map_err(|e| self.broken(format!("its head: {}", place_of(&e))))?;
        if head.deleted {
            return Err(Error::new(ErrorKind::Deleted {
                stream: self.stream.into(),
            }));
        }
        head.version = row.version;
        self.head = Some(head);
        Ok(())
    }

    fn snapshot(&mut self, row: &LoadedRow<'_>) {
        let current = self.head.as_ref().map_or(0, |head| head.version);
        let Some(read) = self
            .read_snapshot
            .filter(|_| row.version <= current && self.at == 0)
        else {
            self.unusable_snapshot = Some(format!(
                "it is of version {}, the stream of version {current}",
                row.version
            ));
            return;
        };
        match read(row.data) {
            Ok(state) => {
                self.state = state;
                self.at = row.version;
            }
            // serde's message repeats what it met; this ends up in logs.
            Err(e) => {
                self.unusable_snapshot =
                    Some(format!("it does not fit the state: {}", place_of(&e)));
            }
        }
    }

    fn event(&mut self, row: &LoadedRow<'_>) -> Result<()> {
        if row.version != self.at + 1 {
            let first = self.head.as_ref().map_or(1, |head| head.truncated_before);
            return Err(if self.at + 1 < first {
                self.truncated(first)
            } else {
                self.gap(row.version)
            });
        }
        // The store's own tombstones count as versions; they say nothing about the state.
        if !row.event_type.starts_with('$') {
            let event = schema_of(row.metadata)
                .map_err(Into::into)
                .and_then(|schema| decode_stored::<A::Event>(row.event_type, schema, row.data))
                .map_err(|e| undecodable(self.stream, row.version, row.event_type, e))?;
            self.state.apply(&event);
        }
        self.at = row.version;
        Ok(())
    }

    /// No more rows.
    pub(crate) fn finish(self) -> Result<Hydrated<A>> {
        if let Some(why) = self.unusable_snapshot {
            return Ok(Hydrated::UnusableSnapshot(why));
        }
        match &self.head {
            None => Ok(Hydrated::Missing),
            Some(head) if self.at == head.version => Ok(Hydrated::State(self.state, self.at)),
            Some(head) if self.at + 1 < head.truncated_before => {
                Err(self.truncated(head.truncated_before))
            }
            Some(head) => Err(self.broken(format!(
                "it ends at version {}, but the stream is at {}",
                self.at, head.version
            ))),
        }
    }

    fn gap(&self, found: i64) -> Error {
        self.broken(format!(
            "version {} is missing: {found} comes after {}",
            self.at + 1,
            self.at
        ))
    }

    fn truncated(&self, first: i64) -> Error {
        self.broken(format!(
            "its events before version {first} were truncated, and no snapshot of the schema version asked for covers them"
        ))
    }

    fn broken(&self, reason: String) -> Error {
        Error::new(ErrorKind::Hydration {
            stream: self.stream.into(),
            reason,
        })
    }
}

#[cfg(test)]
#[path = "hydrate_tests.rs"]
mod tests;
