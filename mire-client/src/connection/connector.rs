//! Connections: from the pool for calls that come and go, private ones for work that must never wait for the pool.

use std::future::Future;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager as _, Timeouts};
use deadpool_postgres::{ClientWrapper, Object, Pool};
use futures_util::TryStreamExt;
use futures_util::future::join;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row, RowStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::calls::{self, Call};
use super::pooler;
use crate::error::{Doing, Error, ErrorKind, Result, from_connect, from_driver};

/// How statements are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statements {
    /// Finds out at the first connection: prepared when it leads straight to PostgreSQL, unnamed behind a pooler.
    #[default]
    Detect,
    /// Prepared once a connection and then called by name: the fastest, for direct connections and for poolers in
    /// session mode.
    Prepared,
    /// Without names: works through PgBouncer in transaction mode.
    Unnamed,
}

/// Hands out connections and knows how to talk on them.
pub(crate) struct Connector {
    pool: Pool,
    statements: Statements,
    /// Longer than this nobody waits for a connection to come about.
    connect_timeout: Duration,
    /// For cancel requests; unknown when the pool is the program's own.
    tls: Option<MakeRustlsConnect>,
    detected: OnceCell<Statements>,
    /// Connections that have waited for events and may do so again.
    waiters: Mutex<Vec<Conn<PrivateConn>>>,
}

/// A connection of its own, in no pool; closed when dropped.
pub(crate) struct PrivateConn(ClientWrapper);

impl Deref for PrivateConn {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.0
    }
}

/// A connection as it is handed out: from the pool, or the caller's own.
pub(crate) trait Session: Deref<Target = ClientWrapper> + Send + 'static {
    /// Makes it nobody's but the caller's.
    fn detach(self) -> ClientWrapper;
}

impl Session for Object {
    fn detach(self) -> ClientWrapper {
        Self::take(self)
    }
}

impl Session for PrivateConn {
    fn detach(self) -> ClientWrapper {
        self.0
    }
}

impl Connector {
    pub(crate) fn new(
        pool: Pool,
        statements: Statements,
        connect_timeout: Duration,
        tls: Option<MakeRustlsConnect>,
    ) -> Self {
        Self {
            pool,
            statements,
            connect_timeout,
            tls,
            detected: OnceCell::new(),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A connection from the pool.
    pub(crate) async fn pooled(&self) -> Result<Conn<Object>> {
        let conn = self.conn(self.pool.get().await?);
        self.in_time(self.made_known(conn)).await
    }

    /// A connection of the caller's own.
    pub(crate) async fn private(&self) -> Result<Conn<PrivateConn>> {
        let manager = self.pool.manager();
        let made = async {
            let mut client = manager.create().await.map_err(from_connect)?;
            // The pool need not remember the statements of a connection that it does not manage.
            manager.detach(&mut client);
            self.made_known(self.conn(PrivateConn(client))).await
        };
        self.in_time(made).await
    }

    /// The same, and one of the pool's if one is idle: it is connected, and knows its way about the catalogs. Such a one may have
    /// been cut off in silence, so who connects again because of that asks for a [`private`](Self::private) one.
    pub(crate) async fn withdrawn(&self) -> Result<Conn<PrivateConn>> {
        if self.pool.status().available == 0 {
            return self.private().await;
        }
        let at_once = Timeouts {
            wait: Some(Duration::ZERO),
            ..self.pool.timeouts()
        };
        match self.pool.timeout_get(&at_once).await {
            Ok(idle) => {
                let conn = self.conn(PrivateConn(Object::take(idle)));
                self.in_time(self.made_known(conn)).await
            }
            // Somebody was faster.
            Err(_) => self.private().await,
        }
    }

    fn conn<C: Session>(&self, client: C) -> Conn<C> {
        Conn {
            client: Some(client),
            prepared: self.statements == Statements::Prepared,
            midway: AtomicUsize::new(0),
            tls: self.tls.clone(),
        }
    }

    /// A server may take a connection and never say a word on it.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = tokio::time::timeout(self.connect_timeout, work).await;
        outcome.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Connection {
                reason: format!(
                    "the server did not answer within {:?}",
                    self.connect_timeout
                ),
            }))
        })
    }

    /// A connection to wait on. It is not given back when the wait is abandoned: the server would still be in it.
    pub(crate) async fn waiting(&self) -> Result<Conn<PrivateConn>> {
        let idle = self.waiters.lock().map_or(None, |mut idle| idle.pop());
        match idle {
            Some(conn) if !conn.is_closed() => Ok(conn),
            _ => self.private().await,
        }
    }

    /// Keeps a connection for the next wait.
    pub(crate) fn done_waiting(&self, conn: Conn<PrivateConn>) {
        const KEPT: usize = 4;
        if let Ok(mut idle) = self.waiters.lock()
            && idle.len() < KEPT
        {
            idle.push(conn);
        }
    }

    async fn made_known<C: Session>(&self, mut conn: Conn<C>) -> Result<Conn<C>> {
        if self.statements == Statements::Detect {
            let statements = match self.detected.get() {
                Some(known) => *known,
                None => {
                    let midway = conn.midway();
                    let detected = self.detected.get_or_try_init(|| detect(conn.client()));
                    let detected = detected.await.copied();
                    midway.over();
                    detected?
                }
            };
            conn.prepared = statements == Statements::Prepared;
        }
        Ok(conn)
    }
}

async fn detect(client: &ClientWrapper) -> Result<Statements> {
    let rows = client
        .query_typed(calls::BACKEND_PID.sql, &[])
        .await
        .map_err(|e| from_driver(e, Doing::Reading("the server process id")))?;
    let pid: Option<i32> = rows.first().and_then(|row| row.try_get(0).ok());
    let direct = pid.is_some() && pid == pooler::announced_pid(client).await;
    let statements = if direct {
        Statements::Prepared
    } else {
        Statements::Unnamed
    };
    tracing::debug!(?statements, "detected");
    Ok(statements)
}

/// A connection and how to talk on it.
///
/// A call on it that was dropped half-way leaves the server busy with it. Such a connection goes back into no pool: it is
/// closed, and the server is asked to stop.
pub(crate) struct Conn<C: Session> {
    /// Taken when it is dropped.
    client: Option<C>,
    prepared: bool,
    /// How many calls have begun and not come to their end.
    midway: AtomicUsize,
    tls: Option<MakeRustlsConnect>,
}

/// A call has begun; unless it is [`over`](Self::over) it was dropped half-way.
#[must_use]
pub(crate) struct Midway<'a>(&'a AtomicUsize);

impl Midway<'_> {
    pub(crate) fn over(self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<C: Session> Conn<C> {
    /// A call on it was dropped half-way (or is under way just now).
    pub(crate) fn is_midway(&self) -> bool {
        self.midway.load(Ordering::Acquire) > 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client().is_closed()
    }
}

impl<C: Session> Drop for Conn<C> {
    fn drop(&mut self) {
        /// A cancel request that does not get through in time is not worth more waiting.
        const PATIENCE: Duration = Duration::from_secs(5);
        if !self.is_midway() {
            return;
        }
        let Some(client) = self.client.take().map(Session::detach) else {
            return;
        };
        if !self.prepared {
            // The driver ends its cancel request without waiting for the other side, of which PgBouncer 1.18 dies, for
            // everybody. It lets go of the server's session by itself when the client goes.
            return;
        }
        let (cancel, tls) = (client.cancel_token(), self.tls.take());
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let request = async {
                match tls {
                    Some(tls) => cancel.cancel_query(tls).await,
                    None => cancel.cancel_query(NoTls).await,
                }
            };
            let _ = tokio::time::timeout(PATIENCE, request).await;
            drop(client);
        });
    }
}

/// What can be talked on.
pub(crate) trait Talk {
    fn client(&self) -> &ClientWrapper;
    fn prepared(&self) -> bool;
    /// Marks the beginning of a call.
    fn midway(&self) -> Midway<'_>;

    /// Sends statements without parameters and waits for their end.
    async fn batch(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        let midway = self.midway();
        let done = self.client().batch_execute(sql).await;
        midway.over();
        done
    }

    /// Sends a call; the rows come as they arrive. Whoever takes them marks beginning and end ([`midway`](Self::midway)).
    async fn stream(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, tokio_postgres::Error> {
        debug_assert_eq!(call.types.len(), params.len(), "{}", call.sql);
        if self.prepared() {
            let statement = self
                .client()
                .prepare_typed_cached(call.sql, call.types)
                .await?;
            self.client()
                .query_raw(&statement, params.iter().copied())
                .await
        } else {
            let typed = params.iter().copied().zip(call.types.iter().cloned());
            self.client().query_typed_raw(call.sql, typed).await
        }
    }

    /// Sends a call and waits for all of its rows.
    async fn rows(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let midway = self.midway();
        let rows = async { self.stream(call, params).await?.try_collect().await }.await;
        midway.over();
        rows
    }

    /// Sends statements and a call right behind them, in one round trip.
    async fn rows_behind(
        &self,
        sql: &str,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
    ) -> (
        Result<(), tokio_postgres::Error>,
        Result<Vec<Row>, tokio_postgres::Error>,
    ) {
        if self.prepared() {
            // The first poll sends, in this order.
            return join(self.batch(sql), self.rows(call, params)).await;
        }
        let first = self.batch(sql).await;
        (first, self.rows(call, params).await)
    }

    /// Sends a call and statements right behind it, in one round trip. An error of its own: nothing was sent but the call.
    async fn rows_before(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
        sql: &str,
    ) -> Result<
        (
            Result<(), tokio_postgres::Error>,
            Result<(), tokio_postgres::Error>,
        ),
        tokio_postgres::Error,
    > {
        if !self.prepared() {
            self.rows(call, params).await?;
            return Ok((Ok(()), self.batch(sql).await));
        }
        let midway = self.midway();
        let both = async {
            // Prepared before: from here on the first poll of either sends, in this order.
            let statement = self
                .client()
                .prepare_typed_cached(call.sql, call.types)
                .await?;
            let called = async {
                let rows = self
                    .client()
                    .query_raw(&statement, params.iter().copied())
                    .await?;
                rows.try_for_each(async |_| Ok(())).await
            };
            Ok(join(called, self.client().batch_execute(sql)).await)
        }
        .await;
        midway.over();
        both
    }

    /// Sends a call that answers with exactly one row.
    async fn row(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
        doing: Doing<'_>,
    ) -> Result<Row> {
        let rows = self
            .rows(call, params)
            .await
            .map_err(|e| from_driver(e, doing))?;
        rows.into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::Decode {
                what: format!("an answer without a row to {}", call.sql),
            })
        })
    }
}

impl<C: Session> Talk for Conn<C> {
    fn client(&self) -> &ClientWrapper {
        self.client.as_ref().expect("taken only when it is dropped")
    }

    fn prepared(&self) -> bool {
        self.prepared
    }

    fn midway(&self) -> Midway<'_> {
        self.midway.fetch_add(1, Ordering::AcqRel);
        Midway(&self.midway)
    }
}
