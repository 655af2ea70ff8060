//! Appending and saving: through shared commits where the store has them, as a commit of its own otherwise.

use std::ops::RangeInclusive;

use tokio_postgres::Row;
use tracing::instrument;
use uuid::Uuid;

use super::{EventStore, ExpectedVersion};
use crate::aggregate::{Aggregate, AggregateRoot};
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::event::NewEvent;
use crate::json::Json;

/// What an append or a save has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The stream.
    pub stream: String,
    /// The stream's version after the append.
    pub version: i64,
    /// The position of the last event in the feed: 1-based, not dense. None when no events were given.
    pub position: Option<i64>,
    /// The events' ids, in order.
    pub ids: Vec<Uuid>,
    /// These very events had been recorded by an earlier call, whose answer this is.
    pub duplicate: bool,
}

impl Recorded {
    /// The events' versions, in order; empty when no events were given.
    #[must_use]
    pub fn versions(&self) -> RangeInclusive<i64> {
        // At most `mire.max_events_per_call` ids.
        let count = i64::try_from(self.ids.len()).unwrap_or(i64::MAX);
        self.version - count + 1..=self.version
    }

    /// Nothing was pending.
    pub(crate) fn nothing<A: Aggregate>(root: &AggregateRoot<A>) -> Self {
        Self {
            stream: root.stream().to_owned(),
            version: root.version(),
            position: None,
            ids: Vec::new(),
            duplicate: false,
        }
    }

    /// This and what was recorded right after it.
    pub(crate) fn and(mut self, next: Self) -> Self {
        self.ids.extend(next.ids);
        Self {
            ids: self.ids,
            duplicate: self.duplicate && next.duplicate,
            ..next
        }
    }
}

/// An append on its way.
#[derive(Clone, Debug)]
pub(crate) struct AppendRequest {
    pub(crate) stream: String,
    pub(crate) expected: ExpectedVersion,
    pub(crate) events: Vec<NewEvent>,
}

impl AppendRequest {
    pub(crate) fn new(
        stream: String,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> Result<Self> {
        match expected {
            ExpectedVersion::Exactly(version) if version < 0 => {
                Err(Error::new(ErrorKind::Invalid {
                    reason: format!("no stream is ever at version {version}"),
                }))
            }
            _ => Ok(Self {
                stream,
                expected,
                events,
            }),
        }
    }

    /// Of an aggregate's pending events: one, unless some of them are in doubt, which go first exactly as they went before.
    pub(crate) fn all_of<A: Aggregate>(root: &AggregateRoot<A>) -> Result<Vec<Self>> {
        let mut version = root.version();
        root.to_new_events()?
            .into_iter()
            .map(|events| {
                let expected = ExpectedVersion::Exactly(version);
                // At most `mire.max_events_per_call`, or the database refuses them.
                version += i64::try_from(events.len()).unwrap_or(i64::MAX);
                Self::new(root.stream().to_owned(), expected, events)
            })
            .collect()
    }

    pub(crate) fn recorded(
        &self,
        version: i64,
        position: Option<i64>,
        duplicate: bool,
    ) -> Recorded {
        Recorded {
            stream: self.stream.clone(),
            version,
            position,
            ids: self.events.iter().map(|e| e.id).collect(),
            duplicate,
        }
    }
}

impl EventStore {
    /// Saves an aggregate's pending events at the version it was loaded at, all or none. With nothing pending nothing is
    /// sent. When it fails the pending events stay, with their ids.
    ///
    /// After an unknown outcome, or when this future was dropped, simply save again, whatever has been recorded since: the
    /// events that may have landed are sent again by themselves first, exactly as before, and the rest after them.
    ///
    /// # Errors
    /// [`is_conflict`](Error::is_conflict) when somebody else has appended since (MI001),
    /// [`is_deleted`](Error::is_deleted) (MI005), [`is_invalid`](Error::is_invalid) (MI004; also while a transaction it
    /// was saved in is still open),
    /// [`is_busy`](Error::is_busy) when another transaction sits on the stream for too long (55P03),
    /// [`is_outcome_unknown`](Error::is_outcome_unknown) when the connection was lost and the database stays away.
    #[instrument(level = "debug", skip_all, fields(stream = %root.stream(), events = root.pending().len()), err(level = "debug"))]
    pub async fn save<A: Aggregate>(&self, root: &mut AggregateRoot<A>) -> Result<Recorded> {
        root.settle_for(None)?;
        let mut saved: Option<Recorded> = None;
        for request in AppendRequest::all_of(root)? {
            let events = request.events.len();
            let in_doubt_before = root.sending(events);
            match self.send(request).await {
                Ok(recorded) => {
                    root.saved(events, recorded.version);
                    saved = Some(match saved {
                        Some(earlier) => earlier.and(recorded),
                        None => recorded,
                    });
                }
                Err(error) => {
                    let nothing_happened = !error.is_outcome_unknown() && !in_doubt_before;
                    if nothing_happened || settles_the_past(&error) {
                        root.not_saved();
                    }
                    return Err(error);
                }
            }
        }
        Ok(saved.unwrap_or_else(|| Recorded::nothing(root)))
    }

    /// Appends events to a stream, all or none. No events: only checks the expected version.
    ///
    /// Events keep their ids, so that at an expected version of 0 or more the same call may simply be repeated.
    ///
    /// # Errors
    /// Those of [`save`](Self::save), and [`is_not_found`](Error::is_not_found) when the stream must exist and does not
    /// (MI002). At [`Any`](ExpectedVersion::Any) and [`Exists`](ExpectedVersion::Exists) a connection lost before the
    /// answer came is always an [unknown outcome](Error::is_outcome_unknown):
    /// [`find_recorded`](Self::find_recorded) may then help.
    #[instrument(
        level = "debug",
        skip_all,
        fields(stream, events),
        err(level = "debug")
    )]
    pub async fn append(
        &self,
        stream: impl Into<String>,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Recorded> {
        let request = AppendRequest::new(stream.into(), expected, events.into_iter().collect())?;
        let span = tracing::Span::current();
        span.record("stream", request.stream.as_str())
            .record("events", request.events.len());
        self.send(request).await
    }

    async fn send(&self, request: AppendRequest) -> Result<Recorded> {
        let recorded = match &self.batcher {
            Some(batcher) => batcher.append(request).await,
            None => self.append_alone(&request).await,
        }?;
        self.listeners.tell(&recorded);
        Ok(recorded)
    }

    /// An append without company. After a lost connection it is sent again where that is safe: idle connections of a pool
    /// may all have died at once. From then on only an answer about these very events tells what has become of them.
    async fn append_alone(&self, request: &AppendRequest) -> Result<Recorded> {
        const MAX_LOSSES: usize = 3;
        let mut lost = false;
        for attempt in 1.. {
            let outcome = match self.connector.pooled().await {
                Ok(conn) => append_directly(&conn, request, Doing::Writing(&request.stream)).await,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.is_outcome_unknown() => {
                    lost = true;
                    if !request.expected.retry_is_safe() || attempt == MAX_LOSSES {
                        return Err(error);
                    }
                }
                Err(error) if lost && !settles_the_past(&error) => {
                    return Err(unknown(&request.stream, error));
                }
                outcome => return outcome,
            }
        }
        Err(Error::new(ErrorKind::Closed))
    }
}

/// Whether this answer to events that are sent again says that they have not landed before, nor will: the slots that they
/// could have taken are somebody else's, or nobody's any more.
pub(crate) fn settles_the_past(error: &Error) -> bool {
    error.is_conflict() || error.is_deleted()
}

/// It may have happened before the attempt that failed with this error.
fn unknown(stream: &str, because: Error) -> Error {
    let kind = ErrorKind::OutcomeUnknown {
        what: stream.to_owned(),
    };
    Error::with_source(kind, because)
}

/// One `append_events` on a given connection.
pub(crate) async fn append_directly(
    conn: &impl Talk,
    request: &AppendRequest,
    doing: Doing<'_>,
) -> Result<Recorded> {
    let types: Vec<&str> = request
        .events
        .iter()
        .map(|e| e.event_type.as_str())
        .collect();
    let data: Vec<&Json> = request.events.iter().map(|e| &e.data).collect();
    let metadata: Vec<Option<&Json>> = request.events.iter().map(|e| e.metadata.as_ref()).collect();
    let ids: Vec<Uuid> = request.events.iter().map(|e| e.id).collect();
    let expected = request.expected.to_sql();
    let row = conn
        .row(
            &calls::APPEND_EVENTS,
            &[&request.stream, &types, &data, &metadata, &ids, &expected],
            doing,
        )
        .await?;
    let (version, position, duplicate) = append_result(&row)?;
    Ok(request.recorded(version, position, duplicate))
}

/// Reads an `append_result`.
pub(crate) fn append_result(row: &Row) -> Result<(i64, Option<i64>, bool)> {
    let read = || -> Result<_, tokio_postgres::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    };
    read().map_err(|e| {
        Error::with_source(
            ErrorKind::Decode {
                what: "the answer to an append".into(),
            },
            e,
        )
    })
}

impl EventStore {
    /// After an [unknown outcome](Error::is_outcome_unknown): searches the last `depth` events of the stream for this
    /// event. `None` is only "not found so far": best effort, since the server may still be about to commit it, or it
    /// may lie deeper. Give the id of the *first* event of the append; events of one append are recorded all or none.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] and the database's own.
    #[instrument(level = "debug", skip_all, fields(%stream, %depth), err(level = "debug"))]
    pub async fn find_recorded(&self, stream: &str, id: Uuid, depth: u32) -> Result<Option<i64>> {
        let depth = i32::try_from(depth).unwrap_or(i32::MAX);
        let conn = self.connector.pooled().await?;
        let rows = conn
            .rows(&calls::READ_STREAM, &[&stream, &0_i64, &depth, &true])
            .await
            .map_err(|e| from_driver(e, Doing::Reading(stream)))?;
        Ok(rows
            .iter()
            .find(|row| row.try_get::<_, Uuid>(2).is_ok_and(|found| found == id))
            .and_then(|row| row.try_get(1).ok()))
    }
}
