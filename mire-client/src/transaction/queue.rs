//! Statements that were sent and whose answers are still to come.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, BytesMut};
use deadpool_postgres::Object;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Error, Statement};

use crate::connection::{Conn, Talk};

type Answer = BoxFuture<'static, Result<u64, Error>>;

#[derive(Default)]
pub(super) struct Queue(
    /// Never locked: it only lets a transaction be shared between threads, which answers are not.
    Mutex<VecDeque<Answer>>,
);

impl Queue {
    fn answers(&mut self) -> &mut VecDeque<Answer> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(
        &mut self,
        conn: Arc<Conn<Object>>,
        statement: Statement,
        params: Vec<Owned>,
    ) {
        let mut answer = async move {
            let midway = conn.midway();
            let done = conn.client().execute_raw(&statement, params).await;
            midway.over();
            done
        }
        .boxed();
        // The first poll hands it over to the connection, in order.
        let sent = match (&mut answer).now_or_never() {
            Some(done) => ready(done).boxed(),
            None => answer,
        };
        self.answers().push_back(sent);
    }

    /// Waits until no more than so many answers are outstanding.
    pub(super) async fn down_to(&mut self, outstanding: usize) -> Result<(), Error> {
        let answers = self.answers();
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

    pub(super) async fn drain(&mut self) -> Result<(), Error> {
        self.down_to(0).await
    }
}

/// A parameter as it travels.
#[derive(Debug)]
pub(super) struct Owned {
    bytes: Option<BytesMut>,
    format: Format,
}

/// Parameters that need not outlive the call. None: they do not fit the statement.
pub(super) fn owned(statement: &Statement, params: &[&(dyn ToSql + Sync)]) -> Option<Vec<Owned>> {
    if params.len() != statement.params().len() {
        return None;
    }
    let owned = |(param, ty): (&&(dyn ToSql + Sync), &Type)| {
        let mut bytes = BytesMut::new();
        let null = param.to_sql_checked(ty, &mut bytes).ok()?;
        Some(Owned {
            bytes: matches!(null, IsNull::No).then_some(bytes),
            format: param.encode_format(ty),
        })
    };
    params.iter().zip(statement.params()).map(owned).collect()
}

impl ToSql for Owned {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let Some(bytes) = &self.bytes else {
            return Ok(IsNull::Yes);
        };
        out.put_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.format {
            Format::Text => Format::Text,
            Format::Binary => Format::Binary,
        }
    }
}
