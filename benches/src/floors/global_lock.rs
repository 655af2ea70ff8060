//! The designs others chose, by a call for each event: one lock for all appends, or message-db's for each category.

use anyhow::{Result, ensure};
use mire_client::Json;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::entry::Content;
use crate::message_db;
use crate::rows::{Appender, check_complete_in};
use crate::world::World;

/// A function that appends one event and answers its number within the stream.
pub(crate) trait Design: Send + 'static {
    const DATABASE: &'static str;
    /// stream, type, data, id.
    const APPEND: &'static str;
    /// Streams that are there with exactly `$2` events.
    const COMPLETE: &'static str;
    /// What it answers for the first event.
    const FIRST: i64;
}

/// PL/pgSQL of a few lines.
pub(crate) struct OneLock;

impl Design for OneLock {
    const DATABASE: &'static str = mire_cluster::DATABASE;
    const APPEND: &'static str = "SELECT floor.append_locked($1, $2, $3, $4)";
    const COMPLETE: &'static str = "
        SELECT count(*)
          FROM (SELECT FROM floor.locked_events AS e
                 WHERE e.stream = ANY ($1)
                 GROUP BY e.stream
                HAVING count(*) = $2 AND max(e.version) = $2) AS s";
    const FIRST: i64 = 1;
}

/// message-db's `write_message`.
pub(crate) struct WriteMessage;

impl Design for WriteMessage {
    const DATABASE: &'static str = message_db::DATABASE;
    const APPEND: &'static str = "SELECT write_message($4::uuid::text, $1, $2, $3)";
    const COMPLETE: &'static str = "
        SELECT count(*)
          FROM (SELECT FROM messages AS m
                 WHERE m.stream_name = ANY ($1)
                 GROUP BY m.stream_name
                HAVING count(*) = $2 AND max(m.position) = $2 - 1) AS s";
    const FIRST: i64 = 0;
}

/// Calls a design's function.
pub(crate) struct GlobalLock<D> {
    client: Client,
    statement: Statement,
    stream: String,
    next: i64,
    kind: &'static str,
    data: Json,
    design: std::marker::PhantomData<D>,
}

impl<D: Design> Appender for GlobalLock<D> {
    type Stream = String;
    const DATABASE: &'static str = D::DATABASE;

    async fn open(world: &World, client: Client, content: Content, _: usize) -> Result<Self> {
        Ok(Self {
            statement: client.prepare(D::APPEND).await?,
            client,
            stream: world.fresh_stream(),
            next: D::FIRST,
            kind: content.kind(),
            data: content.json()?,
            design: std::marker::PhantomData,
        })
    }

    fn streams(&self) -> Vec<String> {
        vec![self.stream.clone()]
    }

    async fn append(&mut self) -> Result<()> {
        let id = Uuid::now_v7();
        let row = self
            .client
            .query_one(
                &self.statement,
                &[&self.stream, &self.kind, &self.data, &id],
            )
            .await?;
        let answer: i64 = row.try_get(0)?;
        ensure!(
            answer == self.next,
            "answered {answer} instead of {}",
            self.next
        );
        self.next += 1;
        Ok(())
    }

    async fn check(world: &World, streams: Vec<String>, events: i64) -> Result<()> {
        check_complete_in(world, D::DATABASE, D::COMPLETE, &streams, events).await
    }
}
