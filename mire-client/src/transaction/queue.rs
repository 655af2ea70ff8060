//! Statements that nobody waits for: gathered, sent many in one call, and answered later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, BytesMut};
use deadpool_postgres::Object;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio_postgres::types::{Format, IsNull, ToSql};
use tokio_postgres::{Error, Statement};

use crate::connection::{Conn, Talk, calls};

type Answer = BoxFuture<'static, Result<(), Error>>;

/// Locked for a moment only: it lets whoever shares a transaction send what is gathered.
#[derive(Default)]
pub(super) struct Queue(Mutex<State>);

#[derive(Default)]
struct State {
    /// `execute_all` on this connection.
    call: Option<Statement>,
    /// What this transaction has queued before.
    known: Known,
    gathered: Gathered,
    answers: VecDeque<Answer>,
}

/// Statements by their text. They are few.
type Known = Vec<(Arc<str>, Statement)>;

/// The arguments of `execute_all`.
#[derive(Default)]
struct Gathered {
    /// Each once, in the order of their numbers.
    statements: Known,
    executions: BytesMut,
}

impl Queue {
    fn state(&mut self) -> &mut State {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gathers an execution. False: the parameters do not fit the statement.
    pub(super) async fn gather(
        &mut self,
        conn: &Arc<Conn<Object>>,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<bool, Error> {
        /// So many bytes travel together: the server works on some while the next are gathered.
        const TOGETHER: usize = 16 * 1024;
        /// So many calls are under way at most.
        const UNDER_WAY: usize = 2;
        let state = self.state();
        if state.call.is_none() {
            let call = &calls::EXECUTE_ALL;
            let call = conn.client().prepare_typed_cached(call.sql, call.types);
            state.call = Some(call.await?);
        }
        let number = state.number_of(conn, sql).await?;
        if !state.gathered.execute(number, params) {
            return Ok(false);
        }
        if state.gathered.executions.len() >= TOGETHER {
            state.send(conn);
            self.down_to(UNDER_WAY).await?;
        }
        Ok(true)
    }

    /// Forgets what is gathered.
    pub(super) fn clear(&mut self) {
        self.state().gathered = Gathered::default();
    }

    /// Sends what is gathered; whatever is sent afterwards comes after it.
    pub(super) fn send(&self, conn: &Arc<Conn<Object>>) {
        self.lock().send(conn);
    }

    /// Waits until no more than so many answers are outstanding.
    async fn down_to(&mut self, outstanding: usize) -> Result<(), Error> {
        let answers = &mut self.state().answers;
        while answers.len() > outstanding
            // It stays in the queue until it is here, should this future be dropped.
            && let Some(first) = answers.front_mut()
        {
            let done = first.await;
            answers.pop_front();
            if let Err(error) = done {
                // What is behind it is refused: nothing to be learnt from that.
                while let Some(refused) = answers.front_mut() {
                    let _ = refused.await;
                    answers.pop_front();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for all answers to what was sent.
    pub(super) async fn drain(&mut self) -> Result<(), Error> {
        self.down_to(0).await
    }
}

fn place(statements: &Known, sql: &str) -> Option<usize> {
    statements.iter().position(|(known, _)| **known == *sql)
}

impl State {
    /// A statement's number among those that are gathered.
    async fn number_of(&mut self, conn: &Arc<Conn<Object>>, sql: &str) -> Result<usize, Error> {
        if let Some(number) = place(&self.gathered.statements, sql) {
            return Ok(number);
        }
        let statement = match place(&self.known, sql) {
            Some(place) => self.known[place].clone(),
            None => {
                // What it is about may be made by what was queued before.
                self.send(conn);
                let statement = (sql.into(), conn.client().prepare_cached(sql).await?);
                self.known.push(statement);
                self.known[self.known.len() - 1].clone()
            }
        };
        self.gathered.statements.push(statement);
        Ok(self.gathered.statements.len() - 1)
    }

    fn send(&mut self, conn: &Arc<Conn<Object>>) {
        let Some(call) = self
            .call
            .clone()
            .filter(|_| !self.gathered.executions.is_empty())
        else {
            return;
        };
        let Gathered {
            statements,
            executions,
        } = std::mem::take(&mut self.gathered);
        let conn = Arc::clone(conn);
        let mut answer = async move {
            let midway = conn.midway();
            let texts: Vec<&str> = statements.iter().map(|(sql, _)| &**sql).collect();
            let types = || statements.iter().map(|(_, statement)| statement.params());
            let counts: Vec<i32> = types().map(|types| types.len() as i32).collect();
            let oids: Vec<u32> = types().flatten().map(|ty| ty.oid()).collect();
            let params: [&(dyn ToSql + Sync); 4] = [&texts, &counts, &oids, &&*executions];
            let done = conn.client().execute(&call, &params).await;
            midway.over();
            done.map(drop)
        }
        .boxed();
        // The first poll hands it over to the connection, in order.
        let sent = match (&mut answer).now_or_never() {
            Some(done) => ready(done).boxed(),
            None => answer,
        };
        self.answers.push_back(sent);
    }
}

impl Gathered {
    /// Adds an execution of a statement. False, and nothing is added: the parameters do not fit it, or have no binary format.
    fn execute(&mut self, number: usize, params: &[&(dyn ToSql + Sync)]) -> bool {
        const NULL: i32 = -1;
        let Self {
            statements,
            executions,
        } = self;
        let before = executions.len();
        let types = statements[number].1.params();
        let Ok(number) = u16::try_from(number) else {
            return false;
        };
        executions.put_u16(number);
        let fits = params.len() == types.len()
            && params.iter().zip(types).all(|(param, ty)| {
                let length = executions.len();
                executions.put_i32(NULL);
                let start = executions.len();
                let written = param.to_sql_checked(ty, executions);
                if let Ok(IsNull::No) = written {
                    let bytes = (executions.len() - start) as i32;
                    executions[length..start].copy_from_slice(&bytes.to_be_bytes());
                }
                written.is_ok() && matches!(param.encode_format(ty), Format::Binary)
            });
        if !fits {
            executions.truncate(before);
        }
        fits
    }
}
