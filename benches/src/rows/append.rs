//! `append_events` by itself, as a driver calls it, beside the INSERT of the same rows.

use std::future::Future;

use anyhow::{Result, ensure};
use mire_client::Json;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::entry::Content;
use crate::floors::{InsertMany, InsertOne, commits};
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::world::World;

/// Enough for a prepared statement to have its generic plan, and for functions to be compiled.
pub(crate) const WARM_UP: usize = 8;

/// Appends the same number of events on every call, to streams of its own.
pub(crate) trait Appender: Sized + Send + 'static {
    /// What names a stream.
    type Stream: Send + 'static;
    /// Where its tables are.
    const DATABASE: &'static str = mire_cluster::DATABASE;

    fn open(
        world: &World,
        client: Client,
        content: Content,
        events: usize,
    ) -> impl Future<Output = Result<Self>> + Send;

    fn streams(&self) -> Vec<Self::Stream>;

    fn append(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Fails unless these streams have exactly the versions 1 to `version`.
    fn check(
        world: &World,
        streams: Vec<Self::Stream>,
        version: i64,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// So many tasks that call so often, with so many events a call, each on a connection and a stream of its own.
pub(crate) fn side<A: Appender>(
    content: Content,
    tasks: usize,
    calls: usize,
    events: usize,
) -> Side {
    Side::new(move |world| async move {
        let mut appenders = Vec::with_capacity(tasks);
        let mut streams = Vec::new();
        for _ in 0..tasks {
            let mut appender = A::open(
                &world,
                world.connect_to(A::DATABASE).await?,
                content,
                events,
            )
            .await?;
            for _ in 0..WARM_UP {
                appender.append().await?;
            }
            streams.extend(appender.streams());
            appenders.push(appender);
        }
        let work = async move {
            together(appenders.into_iter().map(|mut appender| async move {
                for _ in 0..calls {
                    appender.append().await?;
                }
                Ok(())
            }))
            .await?;
            Ok(Work::of(tasks * calls * events))
        };
        let version = i64::try_from((WARM_UP + calls) * events)?;
        let check = async move { A::check(&world, streams, version).await };
        Ok(Ready::new(work, check))
    })
}

pub(crate) fn rows() -> Vec<Row> {
    const UNIT: Measure = Measure::Rate("events/s");
    const BOOKING: Content = Content::Booking;
    let one = |id, tasks, calls| {
        Row::new(
            id,
            format!("`append_events`, 1 event a call, {}", tasks_of(tasks)),
            UNIT,
        )
        .ours(side::<AppendEvents>(BOOKING, tasks, calls, 1))
        .floor(side::<InsertOne>(BOOKING, tasks, calls, 1))
        .side(Role::Commits, commits(tasks, calls))
    };
    let many = |id, events, tasks, calls| {
        let what = format!(
            "`append_events`, {events} events a call, {}",
            tasks_of(tasks)
        );
        Row::new(id, what, UNIT)
            .ours(side::<AppendEvents>(BOOKING, tasks, calls, events))
            .floor(side::<InsertMany>(BOOKING, tasks, calls, events))
    };
    vec![
        one("W1/8 tasks", 8, 250).target(Target::Ratio(Role::Floor, 0.85)),
        one("A1", 1, 500),
        one("A32", 32, 100),
        many("A1x10", 10, 1, 300),
        many("A32x10", 10, 32, 40),
        many("A1x100", 100, 1, 100),
        many("A32x100", 100, 32, 10),
    ]
}

pub(crate) fn tasks_of(tasks: usize) -> String {
    match tasks {
        1 => "one after the other".into(),
        tasks => format!("{tasks} tasks"),
    }
}

const APPEND: &str =
    "SELECT version, position, duplicate FROM mire.append_events($1, $2, $3, $4, $5, $6)";

/// Streams that are there, with exactly the versions 1 to `$2`.
const COMPLETE: &str = "
    SELECT count(*)
      FROM mire.stream_heads AS s
     WHERE s.stream = ANY ($1) AND s.version = $2
       AND (SELECT count(*) FROM mire.events AS e WHERE e.stream_no = s.stream_no AND e.version <= $2) = $2";

/// Fails unless these streams have exactly the versions 1 to `version`.
pub(crate) async fn check_streams(world: &World, streams: Vec<String>, version: i64) -> Result<()> {
    check_complete(world, COMPLETE, &streams, version).await
}

/// Fails unless the query counts all of these streams as complete up to `version`.
pub(crate) async fn check_complete<S: ToSql + Sync>(
    world: &World,
    query: &str,
    streams: &Vec<S>,
    version: i64,
) -> Result<()> {
    check_complete_in(world, mire_cluster::DATABASE, query, streams, version).await
}

/// The same in a database.
pub(crate) async fn check_complete_in<S: ToSql + Sync>(
    world: &World,
    database: &str,
    query: &str,
    streams: &Vec<S>,
    version: i64,
) -> Result<()> {
    let client = world.connect_to(database).await?;
    let complete: i64 = client.query_one(query, &[streams, &version]).await?.get(0);
    ensure!(
        usize::try_from(complete) == Ok(streams.len()),
        "{complete} of {} streams have their {version} events",
        streams.len()
    );
    Ok(())
}

/// `append_events`, any version, ids by the caller: what the typed client sends for an append that goes alone.
pub(crate) struct AppendEvents {
    client: Client,
    statement: Statement,
    stream: String,
    version: i64,
    types: Vec<&'static str>,
    data: Vec<Json>,
}

impl Appender for AppendEvents {
    type Stream = String;

    async fn open(world: &World, client: Client, content: Content, events: usize) -> Result<Self> {
        Ok(Self {
            statement: client.prepare(APPEND).await?,
            client,
            stream: world.fresh_stream(),
            version: 0,
            types: vec![content.kind(); events],
            data: vec![content.json()?; events],
        })
    }

    fn streams(&self) -> Vec<String> {
        vec![self.stream.clone()]
    }

    async fn append(&mut self) -> Result<()> {
        self.version += i64::try_from(self.types.len())?;
        let ids: Vec<Uuid> = self.types.iter().map(|_| Uuid::now_v7()).collect();
        let row = self
            .client
            .query_one(
                &self.statement,
                &[
                    &self.stream,
                    &self.types,
                    &self.data,
                    &None::<Vec<Option<Json>>>,
                    &ids,
                    &None::<i64>,
                ],
            )
            .await?;
        let version: i64 = row.try_get(0)?;
        ensure!(
            version == self.version,
            "answered version {version} instead of {}",
            self.version
        );
        Ok(())
    }

    async fn check(world: &World, streams: Vec<String>, version: i64) -> Result<()> {
        check_streams(world, streams, version).await
    }
}
