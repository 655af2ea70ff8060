//! Loading aggregates: one round trip, folded chunk by chunk as they arrive.

use std::fmt::Display;

use futures_util::{StreamExt, pin_mut};
use tracing::instrument;

use super::EventStore;
use super::hydrate::{Hydrated, Hydrator, LoadedRow, ReadSnapshot};
use crate::BoxError;
use crate::aggregate::{Aggregate, AggregateRoot, Snapshot, stream_name};
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::json::JsonRef;
use crate::packed::PackedRows;

impl EventStore {
    /// Loads an aggregate.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found) when its stream does not exist, [`is_deleted`](Error::is_deleted),
    /// [`is_decode`](Error::is_decode) when an event is none that the aggregate knows,
    /// [`is_hydration`](Error::is_hydration) when versions are missing (a truncated stream without a snapshot).
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load<A: Aggregate>(&self, id: impl Display) -> Result<AggregateRoot<A>> {
        found(self.load_any(&id, None).await?, &id)
    }

    /// Loads an aggregate, or begins a new one when its stream does not exist.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), without "not found".
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load_or_default<A: Aggregate>(
        &self,
        id: impl Display,
    ) -> Result<AggregateRoot<A>> {
        Ok(self
            .load_any(&id, None)
            .await?
            .unwrap_or_else(|| AggregateRoot::new(&id)))
    }

    /// Loads an aggregate from its newest snapshot and the events after it, in one round trip. Without a snapshot of
    /// its schema version, or with one that cannot be read, from all of its events.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load_snapshotted<A: Snapshot>(
        &self,
        id: impl Display,
    ) -> Result<AggregateRoot<A>> {
        found(self.load_any(&id, Some(from_snapshot())).await?, &id)
    }

    /// Loads an aggregate from snapshot and events, or begins a new one when its stream does not exist.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), without "not found".
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn load_or_default_snapshotted<A: Snapshot>(
        &self,
        id: impl Display,
    ) -> Result<AggregateRoot<A>> {
        Ok(self
            .load_any(&id, Some(from_snapshot()))
            .await?
            .unwrap_or_else(|| AggregateRoot::new(&id)))
    }

    async fn load_any<A: Aggregate>(
        &self,
        id: &impl Display,
        snapshot: Option<FromSnapshot<A>>,
    ) -> Result<Option<AggregateRoot<A>>> {
        load_on(&self.connector.pooled().await?, id, snapshot).await
    }
}

/// Which snapshots to take, and how to read them.
#[derive(Clone, Copy)]
pub(crate) struct FromSnapshot<A> {
    schema: i32,
    read: ReadSnapshot<A>,
}

pub(crate) fn from_snapshot<A: Snapshot>() -> FromSnapshot<A> {
    FromSnapshot {
        schema: A::SCHEMA_VERSION,
        read: |json: JsonRef<'_>| serde_json::from_slice(json.0),
    }
}

pub(crate) fn found<A: Aggregate>(
    root: Option<AggregateRoot<A>>,
    id: &impl Display,
) -> Result<AggregateRoot<A>> {
    root.ok_or_else(|| {
        Error::new(ErrorKind::NotFound {
            stream: stream_name::<A>(id),
        })
    })
}

/// Loads on a given connection.
pub(crate) async fn load_on<A: Aggregate>(
    conn: &impl Talk,
    id: &impl Display,
    snapshot: Option<FromSnapshot<A>>,
) -> Result<Option<AggregateRoot<A>>> {
    let stream = stream_name::<A>(id);
    let mut outcome = hydrate(conn, &stream, snapshot).await?;
    if let Hydrated::UnusableSnapshot(why) = &outcome {
        tracing::warn!(%stream, %why, "snapshot ignored");
        outcome = hydrate(conn, &stream, None).await?;
    }
    match outcome {
        Hydrated::State(state, version) => {
            Ok(Some(AggregateRoot::at(id.to_string(), state, version)))
        }
        Hydrated::Missing | Hydrated::UnusableSnapshot(_) => Ok(None),
    }
}

async fn hydrate<A: Aggregate>(
    conn: &impl Talk,
    stream: &str,
    snapshot: Option<FromSnapshot<A>>,
) -> Result<Hydrated<A>> {
    let midway = conn.midway();
    let hydrated = fold(conn, stream, snapshot).await;
    midway.over();
    hydrated
}

async fn fold<A: Aggregate>(
    conn: &impl Talk,
    stream: &str,
    snapshot: Option<FromSnapshot<A>>,
) -> Result<Hydrated<A>> {
    let doing = Doing::Reading(stream);
    let schema = snapshot.as_ref().map(|s| s.schema);
    let rows = conn
        .stream(&calls::LOAD_STREAM, &[&stream, &schema])
        .await
        .map_err(|e| from_driver(e, doing))?;
    pin_mut!(rows);
    let mut hydrator = Hydrator::new(stream, snapshot.map(|s| s.read));
    while let Some(row) = rows.next().await {
        let row = row.map_err(|e| from_driver(e, doing))?;
        let chunk = row.try_get(0).map_err(|e| from_driver(e, doing))?;
        let mut chunk = PackedRows::new(chunk);
        while let Some(loaded) = next_row(&mut chunk).map_err(|e| {
            let what = format!("a row of stream {stream:?}");
            Error::with_source(ErrorKind::Decode { what }, e)
        })? {
            hydrator.row(&loaded)?;
        }
    }
    hydrator.finish()
}

fn next_row<'a>(
    chunk: &mut PackedRows<'a>,
) -> std::result::Result<Option<LoadedRow<'a>>, BoxError> {
    let Some([_, version, _, event_type, _, data, metadata]) = chunk.next()? else {
        return Ok(None);
    };
    Ok(Some(LoadedRow {
        version: version.bigint()?,
        event_type: event_type.text()?,
        data: data.json()?,
        metadata: metadata.json_or_null()?,
    }))
}
