//! Connections: from the pool for calls that come and go, private ones for work that must never wait for the pool.

use std::ops::Deref;
use std::sync::Mutex;

use deadpool::managed::Manager as _;
use deadpool_postgres::{ClientWrapper, Object, Pool};
use futures_util::TryStreamExt;
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream};

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

impl Connector {
    pub(crate) fn new(pool: Pool, statements: Statements) -> Self {
        Self {
            pool,
            statements,
            detected: OnceCell::new(),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A connection from the pool.
    pub(crate) async fn pooled(&self) -> Result<Conn<Object>> {
        let client = self.pool.get().await?;
        let prepared = self.prepares(&client).await?;
        Ok(Conn { client, prepared })
    }

    /// A connection of the caller's own.
    pub(crate) async fn private(&self) -> Result<Conn<PrivateConn>> {
        let manager = self.pool.manager();
        let mut client = manager.create().await.map_err(from_connect)?;
        let prepared = self.prepares(&client).await?;
        // The pool need not remember the statements of a connection that it does not manage.
        manager.detach(&mut client);
        Ok(Conn {
            client: PrivateConn(client),
            prepared,
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

    async fn prepares(&self, client: &ClientWrapper) -> Result<bool> {
        let statements = match self.statements {
            Statements::Detect => *self.detected.get_or_try_init(|| detect(client)).await?,
            chosen => chosen,
        };
        Ok(statements == Statements::Prepared)
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
pub(crate) struct Conn<C> {
    client: C,
    prepared: bool,
}

/// What can be talked on.
pub(crate) trait Talk {
    fn client(&self) -> &ClientWrapper;
    fn prepared(&self) -> bool;

    /// Sends a call; the rows come as they arrive.
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
        self.stream(call, params).await?.try_collect().await
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

impl<C: Deref<Target = ClientWrapper>> Talk for Conn<C> {
    fn client(&self) -> &ClientWrapper {
        &self.client
    }

    fn prepared(&self) -> bool {
        self.prepared
    }
}

impl Conn<PrivateConn> {
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}
