//! An append whose stream was busy: it goes again alone, on another connection, and waits there for the stream.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{Instrument, debug_span};

use super::reconnect::connect;
use super::schedule::Item;
use super::ticket::Ticket;
use crate::connection::{Conn, Connector, PrivateConn, Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::store::{AppendRequest, Recorded, append_directly};

/// Longer than this nobody waits in one go: then it is the next busy stream's turn.
const TURN: Duration = Duration::from_secs(1);

/// What became of it.
pub(super) enum Alone {
    Done(Arc<str>),
    Busy(Item<Ticket>),
}

/// Connections for appends that go alone.
pub(super) struct AloneLanes {
    connector: Arc<Connector>,
    patience: Duration,
    idle: Mutex<Vec<Conn<PrivateConn>>>,
}

impl AloneLanes {
    pub(super) fn new(connector: Arc<Connector>, patience: Duration) -> Self {
        Self {
            connector,
            patience,
            idle: Mutex::default(),
        }
    }

    /// Sends an append and waits for its stream for one turn.
    pub(super) async fn deliver(&self, item: Item<Ticket>) -> Alone {
        let span = debug_span!("append_alone", stream = %item.stream, events = item.payload.request.events.len());
        self.deliver_in_span(item).instrument(span).await
    }

    async fn deliver_in_span(&self, mut item: Item<Ticket>) -> Alone {
        const MAX_LOSSES: usize = 3;
        let stream = item.stream.clone();
        let mut nothing_happened = None;
        for _ in 0..MAX_LOSSES {
            let conn = match self.connection().await {
                Ok(conn) => conn,
                Err(error) => {
                    item.payload.give_up(Some(&error));
                    return Alone::Done(stream);
                }
            };
            let patience = item
                .deadline
                .saturating_duration_since(Instant::now())
                .min(TURN);
            match append_patiently(&conn, &item.payload.request, patience).await {
                Ok(recorded) => {
                    self.keep(conn);
                    item.payload.answer(Ok(recorded));
                    return Alone::Done(stream);
                }
                Err(error) if error.is_outcome_unknown() => match item.payload.lost() {
                    Some(payload) => item.payload = payload,
                    None => return Alone::Done(stream),
                },
                Err(error) if error.is_busy() => {
                    if self.rolled_back(&conn).await {
                        self.keep(conn);
                    }
                    return Alone::Busy(item);
                }
                // The connection was lost before the commit was sent: nothing has happened.
                Err(error) if matches!(error.kind(), ErrorKind::Connection { .. }) => {
                    nothing_happened = Some(error);
                }
                Err(error) => {
                    if self.rolled_back(&conn).await {
                        self.keep(conn);
                    }
                    item.payload.give_up(Some(&error));
                    return Alone::Done(stream);
                }
            }
        }
        item.payload.give_up(nothing_happened.as_ref());
        Alone::Done(stream)
    }

    async fn connection(&self) -> Result<Conn<PrivateConn>> {
        let idle = self.idle.lock().map_or(None, |mut idle| idle.pop());
        match idle {
            Some(conn) if !conn.is_closed() => Ok(conn),
            _ => connect(&self.connector, self.patience).await,
        }
    }

    async fn rolled_back(&self, conn: &Conn<PrivateConn>) -> bool {
        conn.batch("ROLLBACK").await.is_ok()
    }

    fn keep(&self, conn: Conn<PrivateConn>) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(conn);
        }
    }
}

/// One append in a transaction of its own, which waits for locks no longer than told. Only while its COMMIT is under way
/// can a lost connection leave the outcome unknown.
async fn append_patiently(
    conn: &Conn<PrivateConn>,
    request: &AppendRequest,
    patience: Duration,
) -> Result<Recorded> {
    let before_commit = Doing::InTransaction(&request.stream);
    conn.batch("BEGIN")
        .await
        .map_err(|e| from_driver(e, before_commit))?;
    // 0 would mean for ever.
    let lock_timeout = format!("{}ms", patience.as_millis().max(1));
    conn.row(&calls::LOCK_TIMEOUT, &[&lock_timeout], before_commit)
        .await?;
    let recorded = append_directly(conn, request, before_commit).await?;
    conn.batch("COMMIT")
        .await
        .map_err(|e| from_driver(e, Doing::Writing(&request.stream)))?;
    Ok(recorded)
}

/// The error of an append that has been parked for too long.
pub(super) fn busy_for_too_long(item: &Item<Ticket>) -> Error {
    let kind = ErrorKind::Busy {
        stream: item.stream.to_string(),
    };
    Error::reported(kind, crate::sqlstate::LOCK_NOT_AVAILABLE)
}
