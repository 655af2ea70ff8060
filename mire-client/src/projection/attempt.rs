//! One attempt at handling some events: by a plain handler, or in a transaction that moves the checkpoint with them.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio_postgres::types::ToSql;

use super::context::Subscribed;
use super::halt::{Fault, Halt};
use super::handler::{Job, Manner};
use super::incoming::panic_text;
use super::page::Tenure;
use crate::connection::{Talk, calls};
use crate::error::{BoxError, Doing, Error, Result, from_driver, lost_connection};
use crate::event::RecordedEvent;
use crate::sqlstate;
use crate::store::EventStore;
use crate::transaction::{Transaction, Uncommitted};

/// A transaction takes no further event after this long, so that its locks are not held for ever.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

/// What the database is told when events are handled.
pub(crate) enum Mark<'a> {
    /// The checkpoint moves to the last of them, or to where to go on after it if all are handled.
    Checkpoint {
        /// Where to go on after the last event, if that is not its own position.
        page_end: Option<i64>,
    },
    /// The event of a parked stream is through.
    Parked {
        /// The stream.
        stream: &'a str,
    },
}

pub(crate) struct Attempt<'a> {
    pub(crate) store: &'a EventStore,
    pub(crate) subscribed: &'a Subscribed,
    pub(crate) tenure: &'a Tenure,
    pub(crate) events: &'a [RecordedEvent],
    pub(crate) attempt: u32,
    pub(crate) mark: &'a Mark<'a>,
}

impl Attempt<'_> {
    /// Answers how many events are handled, and the checkpoint if it was moved.
    pub(crate) async fn run(&self) -> Result<(usize, Option<i64>), Fault> {
        match self.subscribed.handler.manner() {
            Manner::Plain => self.plain().await,
            Manner::Transactional | Manner::Batch => self.transactional().await,
        }
    }

    async fn plain(&self) -> Result<(usize, Option<i64>), Fault> {
        let count = match self.drive(None).await {
            Ok(count) => count,
            Err(error) if is_outage(&error) => return Err(outage(&error)),
            Err(error) => return Err(Fault::Handler(error)),
        };
        if let (Mark::Parked { stream }, Some(position)) = (self.mark, self.target(count)) {
            let Tenure {
                name,
                partition,
                fence,
            } = self.tenure;
            let conn = self.store.connector.pooled().await?;
            conn.rows(
                &calls::CHECKPOINT_PARKED,
                &[name, partition, fence, stream, &position],
            )
            .await
            .map_err(|e| from_driver(e, Doing::InTransaction(name)))?;
        }
        Ok((count, None))
    }

    /// Asserts first, so that a successor waits for us instead of for our locks, and is let in when we stall.
    async fn transactional(&self) -> Result<(usize, Option<i64>), Fault> {
        let Tenure {
            name,
            partition,
            fence,
        } = self.tenure;
        let mut tx = self
            .store
            .begin_with(&calls::ASSERT_SUBSCRIPTION, &[name, partition, fence], name)
            .await?;
        let driven = match self.drive(Some(&mut tx)).await {
            // What the handler has only sent must have worked, too.
            Ok(count) => tx.flush().await.map(|()| count).map_err(Into::into),
            failed => failed,
        };
        let count = match driven {
            Ok(count) => count,
            Err(error) if tx.conn().client().is_closed() || is_outage(&error) => {
                return Err(outage(&error));
            }
            Err(error) => {
                // What the connection is told next must not come before this; and the rows are free for the next attempt.
                let _ = tx.rollback().await;
                return Err(Fault::Handler(error));
            }
        };
        let Some(position) = self.target(count) else {
            tx.commit().await?;
            return Ok((count, None));
        };
        // In one go: if the checkpoint is refused, so is the commit.
        let committed = match self.mark {
            Mark::Checkpoint { .. } => {
                let params: [&(dyn ToSql + Sync); 4] = [name, partition, fence, &position];
                tx.commit_behind(&calls::CHECKPOINT, &params, name).await
            }
            Mark::Parked { stream } => {
                let params: [&(dyn ToSql + Sync); 5] = [name, partition, fence, stream, &position];
                tx.commit_behind(&calls::CHECKPOINT_PARKED, &params, name)
                    .await
            }
        };
        let checkpoint = matches!(self.mark, Mark::Checkpoint { .. }).then_some(position);
        match committed {
            Ok(()) => Ok((count, checkpoint)),
            Err(Uncommitted::Call(error)) => Err(refused(error)),
            Err(Uncommitted::Commit(error)) if error.is_outcome_unknown() => {
                Err(Fault::Halt(Halt::Restart(error)))
            }
            Err(Uncommitted::Commit(error)) => Err(own_fault(error)),
        }
    }

    /// How far the database is to be told that events are handled.
    fn target(&self, count: usize) -> Option<i64> {
        let last = self.events.get(count.checked_sub(1)?)?.position;
        Some(match self.mark {
            Mark::Checkpoint {
                page_end: Some(end),
            } if count == self.events.len() => *end,
            _ => last,
        })
    }

    /// Gives the events to the handler; its panics are errors.
    async fn drive(&self, tx: Option<&mut Transaction>) -> Result<usize, BoxError> {
        let job = Job {
            events: self.events,
            attempt: self.attempt,
            unknown: self.subscribed.definition.unknown,
            tx,
            until: Instant::now() + LONG_ENOUGH,
        };
        let driven = AssertUnwindSafe(self.subscribed.handler.drive(job))
            .catch_unwind()
            .await;
        driven.unwrap_or_else(|panic| {
            Err(format!("the handler panicked: {}", panic_text(&*panic)).into())
        })
    }
}

/// What the database raises at a checkpoint or commit is the handler's doing (it has left the transaction failed, or broken
/// a deferred constraint), unless it is about the lease or the connection.
fn own_fault(error: Error) -> Fault {
    match Fault::from(error) {
        Fault::Halt(Halt::Restart(error)) => Fault::Handler(error.into()),
        fault => fault,
    }
}

/// What the database raises at a checkpoint. A position out of range is nobody's fault: a crash of the server has taken back
/// how far this fence was handed events.
fn refused(error: Error) -> Fault {
    if error.sqlstate() == Some(sqlstate::INVALID_PARAMETER_VALUE) {
        return Fault::Halt(Halt::Restart(error));
    }
    own_fault(error)
}

fn outage(error: &BoxError) -> Fault {
    Fault::Outage(Error::new(crate::ErrorKind::Connection {
        reason: error.to_string(),
    }))
}

/// Whether a handler failed because the database went away under it.
fn is_outage(error: &BoxError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
            return lost_connection(error);
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            return matches!(error.kind(), crate::ErrorKind::Connection { .. });
        }
        next = error.source();
    }
    false
}
