//! A batch as `append_batch` takes and answers it: flat arrays in, one row an item out.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};
use uuid::Uuid;

use super::schedule::Item;
use super::ticket::Ticket;
use crate::connection::{Talk, calls};
use crate::error::{Conflict, Error, ErrorKind, Result};
use crate::json::Json;
use crate::sqlstate;
use crate::store::{AppendRequest, Recorded};

/// What became of an item.
pub(super) enum Outcome {
    Done(Result<Recorded>),
    Busy,
}

/// Sends a batch. The outer error is the batch's as a whole: nothing of it was committed, or, when the connection was
/// lost, nobody knows.
pub(super) async fn send(
    conn: &impl Talk,
    items: &[Item<Ticket>],
) -> Result<Vec<Outcome>, tokio_postgres::Error> {
    let requests = || items.iter().map(|item| &item.payload.request);
    let events = || requests().flat_map(|request| &request.events);
    let streams: Vec<&str> = requests().map(|request| request.stream.as_str()).collect();
    let expected: Vec<Option<i64>> = requests()
        .map(|request| request.expected.to_sql())
        .collect();
    // More than i32::MAX events fit into no memory.
    let counts: Vec<i32> = requests()
        .map(|r| i32::try_from(r.events.len()).unwrap_or(i32::MAX))
        .collect();
    let types: Vec<&str> = events().map(|event| event.event_type.as_str()).collect();
    let data: Vec<&Json> = events().map(|event| &event.data).collect();
    let metadata: Option<Vec<Option<&Json>>> = events()
        .any(|event| event.metadata.is_some())
        .then(|| events().map(|event| event.metadata.as_ref()).collect());
    let ids: Vec<Uuid> = events().map(|event| event.id).collect();
    let params: [&(dyn ToSql + Sync); 7] =
        [&streams, &expected, &counts, &types, &data, &metadata, &ids];
    let rows = conn.rows(&calls::APPEND_BATCH, &params).await?;
    Ok(requests()
        .enumerate()
        .map(|(i, request)| outcome(request, rows.get(i), i))
        .collect())
}

fn outcome(request: &AppendRequest, row: Option<&Row>, index: usize) -> Outcome {
    let Some(row) = row else {
        return Outcome::Done(Err(undecodable("it is missing")));
    };
    let column = |i: usize| row.try_get::<_, Option<i64>>(i).unwrap_or_default();
    if field::<i32>(row, 0).is_none_or(|item| usize::try_from(item) != Ok(index + 1)) {
        return Outcome::Done(Err(undecodable("it is out of order")));
    }
    let stream = || request.stream.clone();
    let refused = |kind, sqlstate| Outcome::Done(Err(Error::reported(kind, sqlstate)));
    match field::<&str>(row, 1) {
        Some(word @ ("appended" | "duplicate")) => match column(2) {
            Some(version) => Outcome::Done(Ok(request.recorded(
                version,
                column(3),
                word == "duplicate",
            ))),
            None => Outcome::Done(Err(undecodable("it has no version"))),
        },
        Some("busy") => Outcome::Busy,
        Some("conflict") => {
            let conflict = Conflict {
                stream: stream(),
                expected: request.expected.to_sql(),
                actual: column(4),
            };
            refused(ErrorKind::Conflict(conflict), sqlstate::VERSION_CONFLICT)
        }
        Some("not_found") => refused(
            ErrorKind::NotFound { stream: stream() },
            sqlstate::STREAM_NOT_FOUND,
        ),
        Some("deleted") => refused(
            ErrorKind::Deleted { stream: stream() },
            sqlstate::STREAM_DELETED,
        ),
        Some("invalid") => {
            let reason = field::<&str>(row, 5)
                .unwrap_or("no reason given")
                .to_owned();
            refused(ErrorKind::Invalid { reason }, sqlstate::INVALID_INPUT)
        }
        other => Outcome::Done(Err(undecodable(&format!("unknown outcome {other:?}")))),
    }
}

fn field<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Option<T> {
    row.try_get::<_, Option<T>>(index).ok().flatten()
}

fn undecodable(why: &str) -> Error {
    Error::new(ErrorKind::Decode {
        what: format!("an item's row in the answer to append_batch: {why}"),
    })
}
