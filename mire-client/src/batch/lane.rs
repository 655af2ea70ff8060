//! [`Lane`]: the connection that batches travel on, one at a time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tracing::{Instrument, debug_span};

use super::reconnect::connect;
use super::schedule::Item;
use super::ticket::Ticket;
use super::wire::{self, Outcome};
use crate::connection::{Conn, Connector, PrivateConn};
use crate::error::{Doing, from_driver, lost_connection};
use crate::sqlstate;

pub(super) struct Lane {
    connector: Arc<Connector>,
    conn: Option<Conn<PrivateConn>>,
    patience: Duration,
}

/// A batch survives so many lost connections: enough to halve the largest down to an item that kills its server process.
const MAX_LOSSES: usize = 12;
/// Between two looks for the primary.
const FAILOVER_PAUSE: Duration = Duration::from_millis(200);

impl Lane {
    pub(super) fn new(connector: Arc<Connector>, patience: Duration) -> Self {
        Self {
            connector,
            conn: None,
            patience,
        }
    }

    /// Carries a batch to its end: everybody is answered but for the busy, who come back in their order.
    ///
    /// A group that fails as a whole is halved, and the halves go one after the other: so appends to one stream stay in
    /// order, and the one that spoils the batch ends up alone with its error.
    pub(super) async fn deliver(&mut self, batch: Vec<Item<Ticket>>) -> Vec<Item<Ticket>> {
        let mut busy = Busy::default();
        let mut losses = 0;
        let mut groups = VecDeque::from([batch]);
        while let Some(group) = groups.pop_front() {
            // Whatever comes after a busy append of its stream waits for it.
            let group = busy.hold_back(group);
            if group.is_empty() {
                continue;
            }
            let conn = match self.connected().await {
                Ok(conn) => conn,
                Err(error) => {
                    group
                        .into_iter()
                        .chain(groups.drain(..).flatten())
                        .for_each(|i| i.payload.give_up(Some(&error)));
                    break;
                }
            };
            let events: usize = group
                .iter()
                .map(|item| item.payload.request.events.len())
                .sum();
            let span = debug_span!("append_batch", items = group.len(), events);
            match wire::send(conn, &group).instrument(span).await {
                Ok(outcomes) => busy.distribute(group, outcomes),
                Err(error) if lost_connection(&error) => {
                    tracing::warn!(
                        sqlstate = error.code().map(|c| c.code()),
                        items = group.len(),
                        "connection lost in the middle of a batch"
                    );
                    self.conn = None;
                    losses += 1;
                    let survivors = still_safe(group);
                    if losses < MAX_LOSSES {
                        halve(survivors, &mut groups);
                    } else {
                        survivors
                            .into_iter()
                            .for_each(|item| item.payload.give_up(None));
                    }
                }
                Err(error) if is_standby(&error) && losses < MAX_LOSSES => {
                    // It was the primary once; the primary may be another host of the URL now.
                    self.conn = None;
                    losses += 1;
                    groups.push_front(group);
                    tokio::time::sleep(FAILOVER_PAUSE).await;
                }
                Err(error) => refuse_or_halve(group, error, &mut groups),
            }
        }
        busy.items
    }

    async fn connected(&mut self) -> crate::Result<&Conn<PrivateConn>> {
        if self.conn.as_ref().is_none_or(Conn::is_closed) {
            self.conn = Some(connect(&self.connector, self.patience).await?);
        }
        Ok(self.conn.as_ref().expect("just connected"))
    }
}

fn is_standby(error: &tokio_postgres::Error) -> bool {
    error
        .code()
        .is_some_and(|code| code.code() == sqlstate::READ_ONLY)
}

/// The database has refused the group as a whole: nothing of it was written.
fn refuse_or_halve(
    group: Vec<Item<Ticket>>,
    error: tokio_postgres::Error,
    groups: &mut VecDeque<Vec<Item<Ticket>>>,
) {
    let stream = group
        .first()
        .map(|item| item.stream.clone())
        .unwrap_or_default();
    let alone = group.len() == 1;
    let is_about_everybody = is_standby(&error)
        || error
            .code()
            .is_some_and(|code| sqlstate::is_setup(code.code()));
    if alone || is_about_everybody {
        let error = from_driver(error, Doing::InTransaction(&stream));
        group
            .into_iter()
            .for_each(|item| item.payload.give_up(Some(&error)));
    } else {
        tracing::debug!(
            sqlstate = error.code().map(|c| c.code()),
            items = group.len(),
            "batch refused as a whole: looking for the culprit"
        );
        halve(group, groups);
    }
}

/// The appends of a batch that must go again, in their order.
#[derive(Default)]
struct Busy {
    items: Vec<Item<Ticket>>,
    streams: HashSet<Arc<str>>,
}

impl Busy {
    fn push(&mut self, item: Item<Ticket>) {
        self.streams.insert(item.stream.clone());
        self.items.push(item);
    }

    /// Takes out of a group that has yet to be sent what must not overtake.
    fn hold_back(&mut self, group: Vec<Item<Ticket>>) -> Vec<Item<Ticket>> {
        if self.streams.is_empty() {
            return group;
        }
        let held = |item: &mut Item<Ticket>| self.streams.contains(&item.stream);
        let mut group = group;
        let items: Vec<_> = group.extract_if(.., held).collect();
        self.items.extend(items);
        group
    }

    /// Answers everybody but the busy.
    fn distribute(&mut self, group: Vec<Item<Ticket>>, outcomes: Vec<Outcome>) {
        for (item, outcome) in group.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Busy => self.push(item),
                // Where a stream is just being created only appends that could create it are told so. The others see no
                // stream yet; what they find when it is their turn is another matter.
                Outcome::Done(Err(error))
                    if self.streams.contains(&item.stream)
                        && (error.is_conflict() || error.is_not_found()) =>
                {
                    self.push(item);
                }
                Outcome::Done(outcome) => item.payload.answer(outcome),
            }
        }
    }
}

/// After a lost connection: those that may be sent again. The others have been told that nobody knows.
fn still_safe(group: Vec<Item<Ticket>>) -> Vec<Item<Ticket>> {
    group
        .into_iter()
        .filter_map(
            |Item {
                 stream,
                 events,
                 bytes,
                 deadline,
                 payload,
             }| {
                payload.lost().map(|payload| Item {
                    stream,
                    events,
                    bytes,
                    deadline,
                    payload,
                })
            },
        )
        .collect()
}

/// Puts a group's halves before everything else, in order.
fn halve(mut group: Vec<Item<Ticket>>, groups: &mut VecDeque<Vec<Item<Ticket>>>) {
    let second = group.split_off(group.len().div_ceil(2));
    for half in [second, group] {
        if !half.is_empty() {
            groups.push_front(half);
        }
    }
}
