//! [`Transaction`]: several aggregates, and the program's own tables, changed together or not at all.

mod queue;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tracing::instrument;

use crate::aggregate::{Aggregate, AggregateRoot, Ending, Fate, stream_name};
use crate::connection::{Call, Conn, Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver, lost_connection};
use crate::event::NewEvent;
use crate::lease::Lease;
use crate::store::{
    AppendRequest, EventStore, ExpectedVersion, Recorded, append_directly, load_on,
};

use queue::Queue;

/// A database transaction (READ COMMITTED) in which aggregates are loaded and saved beside the program's own SQL.
///
/// Dropped without [`commit`](Self::commit) it rolls back. Keep it short: from its first append until its end it holds
/// back the feed, and other writers of the same streams wait; so does the program itself if it appends to them through the
/// store meanwhile.
///
/// ```no_run
/// # use mire_client::{Aggregate, EventStore, EventData};
/// # async fn f<Account: Aggregate>(store: EventStore) -> Result<(), Box<dyn std::error::Error>> {
/// let mut tx = store.begin().await?;
/// let mut from = tx.load_locked::<Account>("alice").await?;
/// // … from.record(…)
/// tx.save(&mut from).await?;
/// tx.sql().execute("UPDATE report SET transfers = transfers + 1", &[]).await?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
pub struct Transaction {
    /// Taken when it is dropped.
    conn: Option<Arc<Conn<Object>>>,
    /// Statements that nobody has waited for yet.
    queue: Queue,
    /// Nothing has ended it yet.
    open: bool,
    fate: Fate,
}

/// What kept a transaction from being committed behind a last call.
pub(crate) enum Uncommitted {
    /// The call failed; nothing was committed.
    Call(Error),
    /// The commit failed, or its outcome is unknown.
    Commit(Error),
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// A failed transaction's COMMIT answers "ROLLBACK", as if that were a success; the statement before it objects.
const COMMIT: &str = "SELECT; COMMIT";

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl EventStore {
    /// Begins a transaction on a connection of the pool.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`].
    #[instrument(level = "debug", skip_all, err(level = "debug"))]
    pub async fn begin(&self) -> Result<Transaction> {
        let conn = self.connector.pooled().await?;
        conn.batch(BEGIN)
            .await
            .map_err(|e| from_driver(e, Doing::Reading("BEGIN")))?;
        Ok(Transaction::begun(conn))
    }

    /// Begins a transaction with a call, in one round trip.
    pub(crate) async fn begin_with(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
        subject: &str,
    ) -> Result<Transaction> {
        let conn = self.connector.pooled().await?;
        let (begun, called) = conn.rows_behind(BEGIN, call, params).await;
        begun.map_err(|e| from_driver(e, Doing::Reading("BEGIN")))?;
        let transaction = Transaction::begun(conn);
        called.map_err(|e| from_driver(e, Doing::InTransaction(subject)))?;
        Ok(transaction)
    }
}

impl Transaction {
    fn begun(conn: Conn<Object>) -> Self {
        Self {
            conn: Some(Arc::new(conn)),
            queue: Queue::default(),
            open: true,
            fate: Fate::open(),
        }
    }

    /// Loads an aggregate as this transaction sees it. Others may append meanwhile: saving then is a conflict.
    ///
    /// # Errors
    /// Those of [`EventStore::load`].
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load<A: Aggregate>(&self, id: impl Display) -> Result<AggregateRoot<A>> {
        let root = load_on(self.conn(), &id, None).await?;
        root.ok_or_else(|| {
            Error::new(ErrorKind::NotFound {
                stream: stream_name::<A>(&id),
            })
        })
    }

    /// Loads an aggregate, or begins a new one when its stream does not exist.
    ///
    /// # Errors
    /// Those of [`EventStore::load_or_default`].
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load_or_default<A: Aggregate>(
        &self,
        id: impl Display,
    ) -> Result<AggregateRoot<A>> {
        Ok(load_on(self.conn(), &id, None)
            .await?
            .unwrap_or_else(|| AggregateRoot::new(&id)))
    }

    /// Locks an aggregate's stream and loads it: nobody else appends to it until this transaction ends. Waits for whoever
    /// has it locked. Several aggregates should be locked in one order everywhere, by id for instance, or two
    /// transactions may wait for each other (40P01, which [`is_retryable`](Error::is_retryable)).
    ///
    /// A stream that does not exist cannot be locked: [`is_not_found`](Error::is_not_found), and as after every error of the
    /// database this transaction can only be rolled back. Where it may not exist, use
    /// [`load_or_default`](Self::load_or_default): saving is a conflict if somebody else was faster.
    ///
    /// # Errors
    /// Those of [`EventStore::load`].
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load_locked<A: Aggregate>(&self, id: impl Display) -> Result<AggregateRoot<A>> {
        let stream = stream_name::<A>(&id);
        // An append of no events changes nothing, and holds the stream.
        let lock = AppendRequest::new(stream.clone(), ExpectedVersion::Exists, Vec::new())?;
        append_directly(self.conn(), &lock, Doing::InTransaction(&stream)).await?;
        self.load(id).await
    }

    /// Saves an aggregate's pending events as part of this transaction. Until it ends the aggregate can be saved again in
    /// this transaction only. When it fails, or does not commit, the events are pending again: save them in another
    /// transaction, or by themselves.
    ///
    /// # Errors
    /// Those of [`EventStore::save`]. After an error the transaction can only be rolled back.
    #[instrument(level = "debug", skip_all, fields(stream = %root.stream(), events = root.pending().len()), err(level = "debug"))]
    pub async fn save<A: Aggregate>(&mut self, root: &mut AggregateRoot<A>) -> Result<Recorded> {
        root.settle_for(Some(&self.fate))?;
        let mut saved: Option<Recorded> = None;
        for request in AppendRequest::all_of(root)? {
            let doing = Doing::InTransaction(&request.stream);
            let recorded = append_directly(self.conn(), &request, doing).await?;
            root.stage(&self.fate, request.events.len(), recorded.version);
            saved = Some(match saved {
                Some(earlier) => earlier.and(recorded),
                None => recorded,
            });
        }
        Ok(saved.unwrap_or_else(|| Recorded::nothing(root)))
    }

    /// Appends events as part of this transaction.
    ///
    /// # Errors
    /// Those of [`EventStore::append`]. After an error the transaction can only be rolled back.
    #[instrument(
        level = "debug",
        skip_all,
        fields(stream, events),
        err(level = "debug")
    )]
    pub async fn append(
        &mut self,
        stream: impl Into<String>,
        expected: ExpectedVersion,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Recorded> {
        let request = AppendRequest::new(stream.into(), expected, events.into_iter().collect())?;
        let span = tracing::Span::current();
        span.record("stream", request.stream.as_str())
            .record("events", request.events.len());
        append_directly(self.conn(), &request, Doing::InTransaction(&request.stream)).await
    }

    /// Makes this transaction depend on a lease: it fails unless the lease is still held, and until it ends nobody else
    /// can take the lease.
    ///
    /// # Errors
    /// [`is_lease_lost`](Error::is_lease_lost) (MI003).
    #[instrument(level = "debug", skip_all, fields(resource = lease.resource(), fence = lease.fence()), err(level = "debug"))]
    pub async fn assert_lease(&mut self, lease: &Lease) -> Result<()> {
        let (resource, fence) = (lease.resource(), lease.fence());
        let doing = Doing::InTransaction(resource);
        self.conn()
            .rows(&calls::ASSERT_LEASE, &[&resource, &fence])
            .await
            .map_err(|e| from_driver(e, doing))?;
        Ok(())
    }

    /// The connection. What was queued is sent before anything that its user sends.
    pub(crate) fn conn(&self) -> &Conn<Object> {
        let conn = self.conn.as_ref().expect("taken only when it is dropped");
        self.queue.send(conn);
        conn
    }

    /// Executes a statement of the program's own in this transaction, and answers how many rows it has changed. It is
    /// prepared once a connection and kept there: faster than [`sql`](Self::sql)`().execute(…)` from the second time on. Its
    /// text should be a constant, since every text is kept. (Behind a pooler in transaction mode nothing is kept.)
    ///
    /// # Errors
    /// The driver's own. After an error the transaction can only be rolled back.
    pub async fn execute(
        &mut self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        let conn = self.conn();
        let midway = conn.midway();
        let done = async {
            if conn.prepared() {
                let statement = conn.client().prepare_cached(sql).await?;
                conn.client().execute(&statement, params).await
            } else {
                conn.client().execute(sql, params).await
            }
        }
        .await;
        midway.over();
        done
    }

    /// As [`execute`](Self::execute), but does not wait for the answer: many statements travel together, as one call of
    /// `mire.execute_all`, which is several times faster. What is sent later in this transaction sees what they have done.
    /// Should one of them fail, the transaction has failed: statements behind it are refused (25P02), and
    /// [`flush`](Self::flush) or [`commit`](Self::commit) tell the first error. A handler's transaction is committed, with its
    /// checkpoint, only when all have worked. Not for `SAVEPOINT` and `COPY` (0A000); `statement_timeout` is for all that
    /// travel together.
    ///
    /// # Errors
    /// The driver's own, of this statement or of one that was queued before.
    pub async fn queue(
        &mut self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(), tokio_postgres::Error> {
        let Some(conn) = self.conn.as_ref().filter(|conn| conn.prepared()) else {
            return self.execute(sql, params).await.map(drop);
        };
        match self.queue.gather(conn, sql, params).await {
            Ok(true) => Ok(()),
            // The driver says what does not fit.
            Ok(false) => self.execute(sql, params).await.map(drop),
            // A statement may be refused only because of what was queued before.
            Err(error) => Err(self.flush().await.err().unwrap_or(error)),
        }
    }

    /// Waits for the answers to everything that was [queued](Self::queue).
    ///
    /// # Errors
    /// The first one's that failed.
    pub async fn flush(&mut self) -> Result<(), tokio_postgres::Error> {
        self.conn();
        self.queue.drain().await
    }

    /// The connection, for the program's own SQL in the same transaction. Leave `BEGIN`, `COMMIT` and `ROLLBACK` to
    /// this type; savepoints are fine.
    #[must_use]
    pub fn sql(&self) -> &tokio_postgres::Client {
        self.conn().client()
    }

    /// Commits.
    ///
    /// # Errors
    /// [`is_outcome_unknown`](Error::is_outcome_unknown) when the connection was lost before the answer came;
    /// otherwise nothing was committed. A transaction in which something failed before cannot be committed:
    /// [`ErrorKind::Database`] with SQLSTATE 25P02. Nor can one on which a call was dropped half-way, which leaves open
    /// what it has done: [`is_invalid`](Error::is_invalid).
    #[instrument(level = "debug", skip_all, err(level = "debug"))]
    pub async fn commit(mut self) -> Result<()> {
        self.is_ready_to_commit().await?;
        self.open = false;
        self.fate.ends(Ending::Unknown);
        let committed = self.conn().batch(COMMIT).await;
        let committed = committed.map_err(|e| from_driver(e, Doing::Writing("COMMIT")));
        self.has_ended(&committed);
        committed
    }

    /// Makes a last call and commits, in one round trip: when the call fails nothing is committed.
    pub(crate) async fn commit_behind(
        mut self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
        subject: &str,
    ) -> Result<(), Uncommitted> {
        let ready = self.is_ready_to_commit().await;
        ready.map_err(Uncommitted::Commit)?;
        self.fate.ends(Ending::Unknown);
        self.open = false;
        let refused = |e| Uncommitted::Call(from_driver(e, Doing::InTransaction(subject)));
        let (called, committed) = match self.conn().rows_before(call, params, COMMIT).await {
            Ok(both) => both,
            Err(error) => {
                self.open = true;
                return Err(refused(error));
            }
        };
        let outcome = match (called, committed) {
            // That is why the commit was refused, too.
            (Err(called), Err(committed)) if !lost_connection(&committed) => Err(refused(called)),
            (Err(error), Ok(())) | (_, Err(error)) => Err(Uncommitted::Commit(from_driver(
                error,
                Doing::Writing("COMMIT"),
            ))),
            (Ok(()), Ok(())) => Ok(()),
        };
        match &outcome {
            Err(Uncommitted::Call(_)) => self.open = true,
            Err(Uncommitted::Commit(error)) => self.has_ended(&Err(error.clone())),
            Ok(()) => self.has_ended(&Ok(())),
        }
        outcome
    }

    async fn is_ready_to_commit(&mut self) -> Result<()> {
        let queued = self.flush().await;
        queued.map_err(|e| from_driver(e, Doing::InTransaction("SQL")))?;
        if self.conn().is_midway() {
            return Err(Error::new(ErrorKind::Invalid {
                reason: "a call on this transaction was dropped half-way".into(),
            }));
        }
        if self.conn().is_closed() {
            return Err(Error::new(ErrorKind::Connection {
                reason: "it was lost before the transaction was committed".into(),
            }));
        }
        Ok(())
    }

    /// What is left of one that was not committed is rolled back when it is dropped.
    fn has_ended(&mut self, committed: &Result<()>) {
        match committed {
            Ok(()) => self.fate.ends(Ending::Committed),
            Err(error) if error.is_outcome_unknown() => {}
            Err(_) => self.open = true,
        }
    }

    /// Rolls back.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] when the connection was lost, which rolls back as well.
    #[instrument(level = "debug", skip_all, err(level = "debug"))]
    pub async fn rollback(mut self) -> Result<()> {
        self.fate.ends(Ending::Undone);
        self.open = false;
        self.queue.clear();
        let _ = self.queue.drain().await;
        let rolled_back = self.conn().batch("ROLLBACK").await;
        rolled_back.map_err(|e| from_driver(e, Doing::Reading("ROLLBACK")))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        /// Longer than this a connection that does not answer is not waited for: a dropped query may be under way on it.
        const PATIENCE: Duration = Duration::from_secs(1);
        if !self.open {
            return;
        }
        self.fate.ends(Ending::Undone);
        let Some(conn) = self.conn.take().filter(|conn| !conn.is_midway()) else {
            return;
        };
        let Ok(runtime) = Handle::try_current() else {
            // The first poll hands the statement over to the connection, in order.
            let _ = conn.client().batch_execute("ROLLBACK").now_or_never();
            return;
        };
        let mut rollback = Box::pin(async move {
            let _ = tokio::time::timeout(PATIENCE, conn.batch("ROLLBACK")).await;
        });
        if (&mut rollback).now_or_never().is_none() {
            runtime.spawn(rollback);
        }
    }
}
