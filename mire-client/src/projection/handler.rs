//! What an application writes: handlers, of three kinds.

use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::incoming::{Incoming, ProjectedEvent};
use crate::error::{BoxError, Error, ErrorKind};
use crate::event::RecordedEvent;
use crate::transaction::Transaction;

/// Handles one event after the other, each at least once: after a crash, a lost connection or a failover some come again,
/// in order. For what lies outside of the database; what it does should be harmless when done twice. When the partition is
/// lost meanwhile, the future is dropped at its next await.
pub trait Handler: Send + Sync + 'static {
    /// Which events: an aggregate's, several aggregates', or [`Raw`](crate::Raw).
    type Event: ProjectedEvent;

    /// Handles an event.
    ///
    /// # Errors
    /// Any error fails the event: it is tried again by the [`RetryPolicy`](crate::RetryPolicy). A panic is an error too.
    fn handle(
        &self,
        event: &Incoming<'_, Self::Event>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Handles one event after the other inside a transaction that also moves the checkpoint: effectively once. A worker that
/// has been replaced cannot commit.
pub trait TransactionalHandler: Send + Sync + 'static {
    /// Which events: an aggregate's, several aggregates', or [`Raw`](crate::Raw).
    type Event: ProjectedEvent;

    /// Handles an event with SQL of the transaction: [`Transaction::queue`] for what only writes, which does not wait for each
    /// answer, [`Transaction::execute`] for what must be waited for, [`Transaction::sql`] for all else. Several events may share a transaction; when
    /// one of them fails all are rolled back, and tried again each in a transaction of its own.
    ///
    /// # Errors
    /// Any error fails the event, as in [`Handler::handle`].
    fn handle(
        &self,
        event: &Incoming<'_, Self::Event>,
        tx: &mut Transaction,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Handles a page of events with one transaction, for SQL that works on sets. Effectively once.
pub trait BatchHandler: Send + Sync + 'static {
    /// Which events: an aggregate's, several aggregates', or [`Raw`](crate::Raw).
    type Event: ProjectedEvent;

    /// Handles events: one or more, in order. When it fails, each event is tried again in a batch of its own, which
    /// tells which of them it was.
    ///
    /// # Errors
    /// Any error fails the batch.
    fn handle(
        &self,
        events: &[Incoming<'_, Self::Event>],
        tx: &mut Transaction,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A [`Handler`] for [`subscribe`](crate::ProjectionRunnerBuilder::subscribe).
#[derive(Clone, Copy, Debug)]
pub struct Plain<H>(pub H);

/// A [`TransactionalHandler`] for [`subscribe`](crate::ProjectionRunnerBuilder::subscribe).
#[derive(Clone, Copy, Debug)]
pub struct Transactional<H>(pub H);

/// A [`BatchHandler`] for [`subscribe`](crate::ProjectionRunnerBuilder::subscribe).
#[derive(Clone, Copy, Debug)]
pub struct Batch<H>(pub H);

/// A handler of any kind: [`Plain`], [`Transactional`] or [`Batch`].
#[allow(private_bounds)] // sealed
pub trait AnyHandler: Drive {}
impl<H: Drive> AnyHandler for H {}

/// How a handler wants its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    Transactional,
    Batch,
}

/// What becomes of events whose type the handler does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnknownEvents {
    /// They are passed over.
    #[default]
    Skip,
    /// They fail, as if the handler had failed on them.
    Refuse,
}

/// Some events for a handler.
pub(crate) struct Job<'a> {
    pub(crate) events: &'a [RecordedEvent],
    pub(crate) attempt: u32,
    pub(crate) unknown: UnknownEvents,
    /// For all but plain handlers.
    pub(crate) tx: Option<&'a mut Transaction>,
    /// When to end early, having handled at least one event.
    pub(crate) until: std::time::Instant,
}

/// What the runner does with a handler of any kind.
pub(crate) trait Drive: Send + Sync + 'static {
    fn manner(&self) -> Manner;

    /// Gives events to the handler; answers how many of them are handled.
    fn drive<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Result<usize, BoxError>>;
}

impl<H: Handler> Drive for Plain<H> {
    fn manner(&self) -> Manner {
        Manner::Plain
    }

    fn drive<'a>(&'a self, job: Job<'a>) -> BoxFuture<'a, Result<usize, BoxError>> {
        async move {
            for recorded in job.events {
                if let Some(event) = read(recorded, &job)? {
                    self.0.handle(&event).await?;
                }
            }
            Ok(job.events.len())
        }
        .boxed()
    }
}

impl<H: TransactionalHandler> Drive for Transactional<H> {
    fn manner(&self) -> Manner {
        Manner::Transactional
    }

    fn drive<'a>(&'a self, mut job: Job<'a>) -> BoxFuture<'a, Result<usize, BoxError>> {
        async move {
            let tx = job.tx.take().ok_or("no transaction")?;
            for (index, recorded) in job.events.iter().enumerate() {
                if index > 0 && std::time::Instant::now() > job.until {
                    return Ok(index);
                }
                if let Some(event) = read(recorded, &job)? {
                    self.0.handle(&event, tx).await?;
                }
            }
            Ok(job.events.len())
        }
        .boxed()
    }
}

impl<H: BatchHandler> Drive for Batch<H> {
    fn manner(&self) -> Manner {
        Manner::Batch
    }

    fn drive<'a>(&'a self, mut job: Job<'a>) -> BoxFuture<'a, Result<usize, BoxError>> {
        async move {
            let tx = job.tx.take().ok_or("no transaction")?;
            let mut events = Vec::with_capacity(job.events.len());
            for recorded in job.events {
                events.extend(read(recorded, &job)?);
            }
            if !events.is_empty() {
                self.0.handle(&events, tx).await?;
            }
            Ok(job.events.len())
        }
        .boxed()
    }
}

/// Reads an event as the handler's type; None when it is to be passed over.
fn read<'a, E: ProjectedEvent>(
    recorded: &'a RecordedEvent,
    job: &Job<'_>,
) -> Result<Option<Incoming<'a, E>>, BoxError> {
    if recorded.is_tombstone() && !E::TOMBSTONES {
        return Ok(None);
    }
    match (E::from_recorded(recorded)?, job.unknown) {
        (Some(event), _) => Ok(Some(Incoming {
            event,
            recorded,
            attempt: job.attempt,
        })),
        (None, UnknownEvents::Skip) => Ok(None),
        (None, UnknownEvents::Refuse) => Err(Error::new(ErrorKind::Decode {
            what: format!(
                "event {:?} (version {} of stream {:?}): its type is none of the handler's",
                recorded.event_type, recorded.version, recorded.stream
            ),
        })
        .into()),
    }
}
