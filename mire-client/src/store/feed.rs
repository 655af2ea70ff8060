//! The feed: every committed event, in position order, page by page: never more in memory than a page.

use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio_postgres::Row;
use tracing::instrument;

use super::EventStore;
use super::read::PAGE_SIZE;
use crate::BoxError;
use crate::batch::FOR_EVER;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::event::RecordedEvent;
use crate::json::JsonRef;
use crate::packed::PackedRows;

/// Which part of the feed to read, and how.
#[derive(Clone, Debug)]
#[must_use]
pub struct ReadAll {
    after_position: i64,
    page_size: u32,
    page_bytes: Option<usize>,
    categories: Option<Vec<String>>,
    types: Option<Vec<String>>,
    epoch: Option<i64>,
}

impl Default for ReadAll {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadAll {
    /// All of it, from the beginning.
    pub fn new() -> Self {
        Self {
            after_position: 0,
            page_size: PAGE_SIZE,
            page_bytes: None,
            categories: None,
            types: None,
            epoch: None,
        }
    }

    /// Only events after this position: the `next_position` one has kept.
    pub fn after(mut self, position: i64) -> Self {
        self.after_position = position;
        self
    }

    /// How many events are fetched, and held in memory, at a time: 1000 if not said.
    pub fn page_size(mut self, events: u32) -> Self {
        self.page_size = events.max(1);
        self
    }

    /// At most so many bytes of data and metadata are fetched at a time, but one event at least: 64 MiB if not said.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = Some(bytes.max(1));
        self
    }

    /// Only events of streams of these categories.
    pub fn categories(mut self, categories: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.categories = Some(categories.into_iter().map(Into::into).collect());
        self
    }

    /// Only events of these types.
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.types = Some(types.into_iter().map(Into::into).collect());
        self
    }

    /// The epoch that `after` was remembered in: reading fails when it is not the store's.
    pub fn epoch(mut self, epoch: i64) -> Self {
        self.epoch = Some(epoch);
        self
    }
}

/// An event of the feed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedEvent {
    /// The event.
    pub event: RecordedEvent,
    /// What to keep once this event has been handled: where to go on reading. The event's own position, or more.
    pub next_position: i64,
    /// The epoch to keep with it.
    pub epoch: i64,
}

/// A page of the feed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FeedPage {
    /// Its events, in position order; possibly none although there are more: see `next_position`.
    pub events: Vec<FeedEvent>,
    /// Where to go on. As long as it grows there may be more.
    pub next_position: i64,
    /// The store's epoch.
    pub epoch: i64,
}

/// How far the feed can be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SafePosition {
    /// The position. News, not a checkpoint: keep only what reading has handed out.
    pub position: i64,
    /// The store's epoch.
    pub epoch: i64,
}

impl EventStore {
    /// The feed: every committed event, in position order, none skipped, page by page as they are taken; ends when it
    /// has caught up. Keep the `next_position` (and epoch) of the last event handled, and start there next time.
    ///
    /// It fails with [`is_epoch_changed`](Error::is_epoch_changed) when the store's epoch changes on the way, or is not
    /// the one given, and with [`is_feed_unsafe`](Error::is_feed_unsafe) on a standby.
    pub fn read_all(&self, read: ReadAll) -> BoxStream<'static, Result<FeedEvent>> {
        let store = self.clone();
        stream::try_unfold(Some(read), move |read| {
            let store = store.clone();
            async move {
                let Some(mut read) = read else {
                    return Ok::<_, Error>(None);
                };
                let page = store.read_page(&read).await?;
                let next = (page.next_position > read.after_position).then(|| {
                    read.after_position = page.next_position;
                    read.epoch = Some(page.epoch);
                    read
                });
                Ok(Some((stream::iter(page.events.into_iter().map(Ok)), next)))
            }
        })
        .try_flatten()
        .boxed()
    }

    /// One page of the feed.
    ///
    /// # Errors
    /// [`is_epoch_changed`](Error::is_epoch_changed), [`is_feed_unsafe`](Error::is_feed_unsafe) (MI007).
    #[instrument(level = "debug", skip_all, fields(after = read.after_position), err(level = "debug"))]
    pub async fn read_page(&self, read: &ReadAll) -> Result<FeedPage> {
        let count = i32::try_from(read.page_size).unwrap_or(i32::MAX);
        let bytes = read
            .page_bytes
            .map(|bytes| i32::try_from(bytes).unwrap_or(i32::MAX));
        let conn = self.connector.pooled().await?;
        let doing = Doing::Reading("the feed");
        let row = conn
            .row(
                &calls::READ_ALL,
                &[
                    &read.after_position,
                    &count,
                    &read.categories,
                    &read.types,
                    &bytes,
                ],
                doing,
            )
            .await?;
        drop(conn);
        let mut page = FeedPage {
            events: Vec::new(),
            next_position: read.after_position,
            epoch: 0,
        };
        for_each_row(&row, doing, |row| {
            page.next_position = row.next_position;
            page.epoch = row.epoch;
            page.events.extend(row.event.map(|event| FeedEvent {
                event,
                next_position: row.next_position,
                epoch: row.epoch,
            }));
        })?;
        match read.epoch {
            Some(known) if known != page.epoch => Err(Error::new(ErrorKind::EpochChanged {
                from: known,
                to: page.epoch,
            })),
            _ => Ok(page),
        }
    }

    /// Waits until the feed can be read beyond a position, at most for `timeout`. Costs the database a
    /// sleeping session, no polling. Takes a connection of its own, so that waiting never empties the pool.
    ///
    /// Returns when there is news or the time is up: `position > after` tells which.
    ///
    /// # Errors
    /// [`is_feed_unsafe`](Error::is_feed_unsafe) (MI007), [`ErrorKind::Connection`].
    #[instrument(level = "debug", skip_all, fields(%after), err(level = "debug"))]
    pub async fn wait_for_events(&self, after: i64, timeout: Duration) -> Result<SafePosition> {
        let give_up_at = Instant::now() + timeout.min(FOR_EVER);
        let conn = self.connector.waiting().await?;
        loop {
            let left = give_up_at.saturating_duration_since(Instant::now());
            let turn = left.min(WAIT_TURN);
            let safe = wait_once(&conn, after, turn).await?;
            if safe.position > after || turn == left {
                self.connector.done_waiting(conn);
                return Ok(safe);
            }
        }
    }

    /// How far the feed can be read now.
    ///
    /// # Errors
    /// [`is_feed_unsafe`](Error::is_feed_unsafe) (MI007).
    #[instrument(level = "debug", skip_all, err(level = "debug"))]
    pub async fn safe_position(&self) -> Result<i64> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(&calls::SAFE_POSITION, &[], Doing::Reading("the feed"))
            .await?;
        row.try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading("the feed")))
    }
}

/// A wait whose caller has gone, and whose cancel request got lost, ends on the server after this long at the latest.
const WAIT_TURN: Duration = Duration::from_secs(30);

async fn wait_once(conn: &impl Talk, after: i64, timeout: Duration) -> Result<SafePosition> {
    let doing = Doing::Reading("the feed");
    let seconds = timeout.as_secs_f64();
    let row = conn
        .row(&calls::WAIT_FOR_EVENTS, &[&after, &seconds], doing)
        .await?;
    let read = || -> Result<_, tokio_postgres::Error> {
        Ok(SafePosition {
            position: row.try_get(0)?,
            epoch: row.try_get(1)?,
        })
    };
    read().map_err(|e| from_driver(e, doing))
}

/// A row of `read_all` or `fetch_events`.
pub(crate) struct FeedRow {
    pub(crate) next_position: i64,
    pub(crate) epoch: i64,
    pub(crate) event: Option<RecordedEvent>,
}

/// Takes a page apart, which is the only column of its row.
pub(crate) fn for_each_row(
    row: &Row,
    doing: Doing<'_>,
    mut take: impl FnMut(FeedRow),
) -> Result<()> {
    let page = row.try_get(0).map_err(|e| from_driver(e, doing))?;
    let mut rows = PackedRows::new(page);
    while let Some(row) = next_row(&mut rows).map_err(|e| {
        let what = "a row of the feed".into();
        Error::with_source(ErrorKind::Decode { what }, e)
    })? {
        take(row);
    }
    Ok(())
}

fn next_row(rows: &mut PackedRows<'_>) -> std::result::Result<Option<FeedRow>, BoxError> {
    let Some(
        [
            position,
            stream,
            version,
            id,
            event_type,
            recorded_at,
            data,
            metadata,
            next,
            epoch,
        ],
    ) = rows.next()?
    else {
        return Ok(None);
    };
    let event = if position.is_null() {
        None
    } else {
        Some(RecordedEvent {
            position: position.bigint()?,
            stream: stream.text()?.into(),
            version: version.bigint()?,
            id: id.uuid()?,
            event_type: event_type.text()?.into(),
            recorded_at: recorded_at.time()?,
            data: data.json()?.to_owned()?,
            metadata: metadata
                .json_or_null()?
                .map(JsonRef::to_owned)
                .transpose()?,
        })
    };
    Ok(Some(FeedRow {
        next_position: next.bigint()?,
        epoch: epoch.bigint()?,
        event,
    }))
}
