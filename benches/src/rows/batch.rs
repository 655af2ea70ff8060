//! `append_batch` by itself: one event to each of many streams, one call.

use anyhow::{Result, ensure};
use mire_client::Json;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::append::{Appender, check_streams};
use crate::entry::Content;
use crate::world::World;

const APPEND: &str = "
    SELECT item, outcome, version, position, actual_version, reason
      FROM mire.append_batch($1, $2, $3, $4, $5, $6, $7)";

/// One event to each of its streams on every call.
pub(crate) struct AppendBatch {
    client: Client,
    statement: Statement,
    streams: Vec<String>,
    version: i64,
    counts: Vec<i32>,
    types: Vec<&'static str>,
    data: Vec<Json>,
}

impl Appender for AppendBatch {
    type Stream = String;

    async fn open(world: &World, client: Client, content: Content, events: usize) -> Result<Self> {
        Ok(Self {
            statement: client.prepare(APPEND).await?,
            client,
            streams: (0..events).map(|_| world.fresh_stream()).collect(),
            version: 0,
            counts: vec![1; events],
            types: vec![content.kind(); events],
            data: vec![content.json()?; events],
        })
    }

    fn streams(&self) -> Vec<String> {
        self.streams.clone()
    }

    async fn append(&mut self) -> Result<()> {
        self.version += 1;
        let expected: Vec<Option<i64>> = vec![None; self.streams.len()];
        let ids: Vec<Uuid> = self.types.iter().map(|_| Uuid::now_v7()).collect();
        let rows = self
            .client
            .query(
                &self.statement,
                &[
                    &self.streams,
                    &expected,
                    &self.counts,
                    &self.types,
                    &self.data,
                    &None::<Vec<Option<Json>>>,
                    &ids,
                ],
            )
            .await?;
        ensure!(rows.len() == self.streams.len(), "{} outcomes", rows.len());
        for row in rows {
            let outcome: &str = row.try_get(1)?;
            let version: Option<i64> = row.try_get(2)?;
            ensure!(
                outcome == "appended" && version == Some(self.version),
                "outcome {outcome} at version {version:?} instead of {}",
                self.version
            );
        }
        Ok(())
    }

    async fn check(world: &World, streams: Vec<String>, version: i64) -> Result<()> {
        check_streams(world, streams, version).await
    }
}
