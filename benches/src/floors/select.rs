//! Prepared SELECT statements of the same rows, their columns decoded as they arrive and their JSON left as bytes.

use std::error::Error as StdError;

use anyhow::{Result, ensure};
use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

/// What loading a stream takes.
pub(crate) const STREAM: &str = "
    SELECT e.version, e.type, e.data, e.metadata
      FROM mire.events AS e
     WHERE e.stream_no = $1
     ORDER BY e.version";

/// The same through the extension's function, without the typed client. Its first row is about the stream.
pub(crate) const LOAD_STREAM: &str =
    "SELECT version, type, data, metadata FROM mire.load_stream($1, NULL)";

/// A page of everything. Without the stream's name, which the feed has: a plain table would hold it in each row.
pub(crate) const PAGE: &str = "
    SELECT e.position, e.version, e.event_id, e.type, e.recorded_at, e.data, e.metadata, e.stream_no
      FROM mire.events AS e
     WHERE e.position > $1
     ORDER BY e.position
     LIMIT $2::integer";

/// The same through the extension's function, without the typed client.
pub(crate) const READ_ALL: &str = "
    SELECT position, version, event_id, type, recorded_at, data, metadata, stream, next_position, epoch
      FROM mire.read_all($1, $2)";

/// JSON as it came, not looked at.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }
}

/// What has been read so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fold {
    pub(crate) events: usize,
    pub(crate) versions: i64,
    pub(crate) bytes: usize,
    pub(crate) position: i64,
}

impl Fold {
    /// Takes a row of a stream; `$stream` tells about the stream and is none of its events.
    fn stream_row(&mut self, row: &Row) -> Result<()> {
        let version: i64 = row.try_get(0)?;
        let kind: &str = row.try_get(1)?;
        let data: Raw<'_> = row.try_get(2)?;
        let metadata: Option<Raw<'_>> = row.try_get(3)?;
        if kind != "$stream" {
            self.events += 1;
            self.versions += version;
            self.bytes += data.0.len() + metadata.map_or(0, |m| m.0.len());
        }
        Ok(())
    }

    /// Takes a row of a page. The eighth column, the stream's name or number, is decoded by whoever knows which it is.
    fn page_row(&mut self, row: &Row) -> Result<()> {
        let position: i64 = row.try_get(0)?;
        ensure!(position > self.position, "positions do not ascend");
        self.position = position;
        self.versions += row.try_get::<_, i64>(1)?;
        let _: Uuid = row.try_get(2)?;
        let _: &str = row.try_get(3)?;
        let _: std::time::SystemTime = row.try_get(4)?;
        let data: Raw<'_> = row.try_get(5)?;
        let metadata: Option<Raw<'_>> = row.try_get(6)?;
        self.bytes += data.0.len() + metadata.map_or(0, |m| m.0.len());
        self.events += 1;
        Ok(())
    }
}

/// Reads one stream, by whatever the statement takes for its name.
pub(crate) async fn stream_select(
    client: &Client,
    statement: &Statement,
    stream: &(dyn ToSql + Sync),
) -> Result<Fold> {
    let mut fold = Fold::default();
    let rows = client.query_raw(statement, [stream]).await?;
    pin_mut!(rows);
    while let Some(row) = rows.try_next().await? {
        fold.stream_row(&row)?;
    }
    Ok(fold)
}

/// Reads so many events after a position, page by page, and decodes the eighth column as a `T`.
pub(crate) async fn feed_pages<T>(
    client: &Client,
    statement: &Statement,
    after: i64,
    events: usize,
    page: i32,
) -> Result<Fold>
where
    T: for<'a> FromSql<'a>,
{
    let mut fold = Fold {
        position: after,
        ..Fold::default()
    };
    while fold.events < events {
        let before = fold.events;
        let params: [&(dyn ToSql + Sync); 2] = [&fold.position.clone(), &page];
        let rows = client.query_raw(statement, params).await?;
        pin_mut!(rows);
        while let Some(row) = rows.try_next().await? {
            fold.page_row(&row)?;
            let _: T = row.try_get(7)?;
        }
        ensure!(
            fold.events > before,
            "only {before} of {events} events are there"
        );
    }
    Ok(fold)
}
