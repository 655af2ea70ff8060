//! Prepared INSERT statements of the same rows as the store's.

use anyhow::{Result, ensure};
use mire_client::Json;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::entry::{CATEGORY, Content};
use crate::rows::{Appender, check_complete};
use crate::world::World;

const ONE: &str = "
    INSERT INTO floor.events (position, stream_no, version, event_id, recorded_at, category, type, data, metadata)
    VALUES (nextval('floor.positions'), $1, $2, $3, clock_timestamp(), $4, $5, $6, $7)";

const MANY: &str = "
    INSERT INTO floor.events (position, stream_no, version, event_id, recorded_at, category, type, data, metadata)
    SELECT nextval('floor.positions'), e.stream_no, e.version, e.event_id, clock_timestamp(), $4, e.type, e.data, e.metadata
      FROM unnest($1::bigint[], $2::bigint[], $3::uuid[], $5::text[], $6::jsonb[], $7::jsonb[])
           AS e (stream_no, version, event_id, type, data, metadata)";

/// Streams that are there with exactly the versions 1 to `$2`.
const COMPLETE: &str = "
    SELECT count(*)
      FROM (SELECT e.stream_no
              FROM floor.events AS e
             WHERE e.stream_no = ANY ($1)
             GROUP BY e.stream_no
            HAVING count(*) = $2 AND max(e.version) = $2) AS s";

/// One row a call.
pub(crate) struct InsertOne {
    client: Client,
    statement: Statement,
    stream: i64,
    version: i64,
    kind: &'static str,
    data: Json,
}

impl Appender for InsertOne {
    type Stream = i64;

    async fn open(world: &World, client: Client, content: Content, _: usize) -> Result<Self> {
        Ok(Self {
            statement: client.prepare(ONE).await?,
            client,
            stream: world.fresh_number(),
            version: 0,
            kind: content.kind(),
            data: content.json()?,
        })
    }

    fn streams(&self) -> Vec<i64> {
        vec![self.stream]
    }

    async fn append(&mut self) -> Result<()> {
        self.version += 1;
        let inserted = self
            .client
            .execute(
                &self.statement,
                &[
                    &self.stream,
                    &self.version,
                    &Uuid::now_v7(),
                    &CATEGORY,
                    &self.kind,
                    &self.data,
                    &None::<Json>,
                ],
            )
            .await?;
        ensure!(inserted == 1, "{inserted} rows inserted");
        Ok(())
    }

    async fn check(world: &World, streams: Vec<i64>, version: i64) -> Result<()> {
        check_complete(world, COMPLETE, &streams, version).await
    }
}

/// Many rows a call: `EACH` of them to each of the streams that make up the rest.
pub(crate) struct InsertMany<const STREAMS: usize = 1> {
    client: Client,
    statement: Statement,
    streams: Vec<i64>,
    version: i64,
    each: usize,
    kind: &'static str,
    data: Json,
}

impl<const STREAMS: usize> Appender for InsertMany<STREAMS> {
    type Stream = i64;

    async fn open(world: &World, client: Client, content: Content, events: usize) -> Result<Self> {
        Ok(Self {
            statement: client.prepare(MANY).await?,
            client,
            streams: (0..STREAMS).map(|_| world.fresh_number()).collect(),
            version: 0,
            each: events / STREAMS,
            kind: content.kind(),
            data: content.json()?,
        })
    }

    fn streams(&self) -> Vec<i64> {
        self.streams.clone()
    }

    async fn append(&mut self) -> Result<()> {
        let rows = self.streams.len() * self.each;
        let first = self.version + 1;
        self.version += i64::try_from(self.each)?;
        let mut streams = Vec::with_capacity(rows);
        let mut versions = Vec::with_capacity(rows);
        for stream in &self.streams {
            for version in first..=self.version {
                streams.push(*stream);
                versions.push(version);
            }
        }
        let ids: Vec<Uuid> = (0..rows).map(|_| Uuid::now_v7()).collect();
        let inserted = self
            .client
            .execute(
                &self.statement,
                &[
                    &streams,
                    &versions,
                    &ids,
                    &CATEGORY,
                    &vec![self.kind; rows],
                    &vec![&self.data; rows],
                    &vec![None::<&Json>; rows],
                ],
            )
            .await?;
        ensure!(
            usize::try_from(inserted) == Ok(rows),
            "{inserted} of {rows} rows inserted"
        );
        Ok(())
    }

    async fn check(world: &World, streams: Vec<i64>, version: i64) -> Result<()> {
        check_complete(world, COMPLETE, &streams, version).await
    }
}
