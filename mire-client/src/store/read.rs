//! Reading streams and the feed, page by page: never more in memory than a page.

use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tokio_postgres::Row;
use tracing::instrument;

use super::EventStore;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::event::RecordedEvent;

/// How many events a page has if nothing else was said.
const PAGE_SIZE: u32 = 1000;

/// Which part of a stream to read, and how.
#[derive(Clone, Debug)]
#[must_use]
pub struct ReadStream {
    after_version: i64,
    page_size: u32,
    backward: bool,
}

impl Default for ReadStream {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadStream {
    /// All of it, forward.
    pub fn new() -> Self {
        Self {
            after_version: 0,
            page_size: PAGE_SIZE,
            backward: false,
        }
    }

    /// Only events beyond this version: with larger versions, or with smaller ones when reading backward. 0 is the end
    /// of the stream one starts from.
    pub fn after(mut self, version: i64) -> Self {
        self.after_version = version;
        self
    }

    /// From the end to the beginning.
    pub fn backward(mut self) -> Self {
        self.backward = true;
        self
    }

    /// How many events are fetched, and held in memory, at a time: 1000 if not said.
    pub fn page_size(mut self, events: u32) -> Self {
        self.page_size = events.max(1);
        self
    }
}

/// Which part of the feed to read, and how.
#[derive(Clone, Debug)]
#[must_use]
pub struct ReadAll {
    after_position: i64,
    page_size: u32,
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
    /// A stream's events, fetched page by page as they are taken. A stream that does not exist has none.
    pub fn read_stream(
        &self,
        stream: impl Into<String>,
        read: ReadStream,
    ) -> BoxStream<'static, Result<RecordedEvent>> {
        let store = self.clone();
        let name = stream.into();
        stream::try_unfold(Some(read.after_version), move |after| {
            let (store, name, read) = (store.clone(), name.clone(), read.clone());
            async move {
                let Some(after) = after else {
                    return Ok::<_, Error>(None);
                };
                let page = store
                    .read_stream_page(
                        &name,
                        &ReadStream {
                            after_version: after,
                            ..read.clone()
                        },
                    )
                    .await?;
                let more = page.len() >= read.page_size as usize;
                let next = page
                    .last()
                    .map(|e| e.version)
                    .filter(|&version| more && !(read.backward && version == 1));
                Ok(Some((stream::iter(page.into_iter().map(Ok)), next)))
            }
        })
        .try_flatten()
        .boxed()
    }

    #[instrument(skip_all, fields(stream = name, after = read.after_version), err)]
    async fn read_stream_page(&self, name: &str, read: &ReadStream) -> Result<Vec<RecordedEvent>> {
        let count = i32::try_from(read.page_size).unwrap_or(i32::MAX);
        let conn = self.connector.pooled().await?;
        let rows = conn
            .rows(
                &calls::READ_STREAM,
                &[&name, &read.after_version, &count, &read.backward],
            )
            .await
            .map_err(|e| from_driver(e, Doing::Reading(name)))?;
        rows.iter()
            .map(|row| RecordedEvent::from_row(row, 0, name.to_owned()))
            .collect()
    }

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
    #[instrument(skip_all, fields(after = read.after_position), err)]
    pub async fn read_page(&self, read: &ReadAll) -> Result<FeedPage> {
        let count = i32::try_from(read.page_size).unwrap_or(i32::MAX);
        let conn = self.connector.pooled().await?;
        let rows = conn
            .rows(
                &calls::READ_ALL,
                &[&read.after_position, &count, &read.categories, &read.types],
            )
            .await
            .map_err(|e| from_driver(e, Doing::Reading("the feed")))?;
        drop(conn);
        let mut page = FeedPage {
            events: Vec::with_capacity(rows.len()),
            next_position: read.after_position,
            epoch: 0,
        };
        for row in &rows {
            let row = feed_row(row)?;
            page.next_position = row.next_position;
            page.epoch = row.epoch;
            page.events.extend(row.event.map(|event| FeedEvent {
                event,
                next_position: row.next_position,
                epoch: row.epoch,
            }));
        }
        match read.epoch {
            Some(known) if known != page.epoch => Err(Error::new(ErrorKind::EpochChanged {
                from: known,
                to: page.epoch,
            })),
            _ => Ok(page),
        }
    }

    /// Waits until the feed can be read beyond a position, at most for `timeout` (up to one day). Costs the database a
    /// sleeping session, no polling. Takes a connection of its own, so that waiting never empties the pool.
    ///
    /// Returns when there is news or the time is up: `position > after` tells which.
    ///
    /// # Errors
    /// [`is_feed_unsafe`](Error::is_feed_unsafe) (MI007), [`ErrorKind::Connection`].
    #[instrument(skip_all, fields(after), err)]
    pub async fn wait_for_events(&self, after: i64, timeout: Duration) -> Result<SafePosition> {
        let conn = self.connector.waiting().await?;
        let row = conn
            .row(
                &calls::WAIT_FOR_EVENTS,
                &[&after, &timeout.as_secs_f64()],
                Doing::Reading("the feed"),
            )
            .await?;
        self.connector.done_waiting(conn);
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok(SafePosition {
                position: row.try_get(0)?,
                epoch: row.try_get(1)?,
            })
        };
        read().map_err(|e| {
            Error::with_source(
                ErrorKind::Decode {
                    what: "the answer to a wait".into(),
                },
                e,
            )
        })
    }

    /// How far the feed can be read now.
    ///
    /// # Errors
    /// [`is_feed_unsafe`](Error::is_feed_unsafe) (MI007).
    #[instrument(skip_all, err)]
    pub async fn safe_position(&self) -> Result<i64> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(&calls::SAFE_POSITION, &[], Doing::Reading("the feed"))
            .await?;
        row.try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading("the feed")))
    }

    /// A stream's version; 0 when it does not exist.
    ///
    /// # Errors
    /// The database's own.
    #[instrument(skip_all, fields(stream), err)]
    pub async fn stream_version(&self, stream: &str) -> Result<i64> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(&calls::STREAM_VERSION, &[&stream], Doing::Reading(stream))
            .await?;
        row.try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading(stream)))
    }

    /// Whether a stream exists: whether anything was ever appended to it, also when it has been deleted since.
    ///
    /// # Errors
    /// The database's own.
    pub async fn stream_exists(&self, stream: &str) -> Result<bool> {
        Ok(self.stream_version(stream).await? > 0)
    }
}

struct FeedRow {
    next_position: i64,
    epoch: i64,
    event: Option<RecordedEvent>,
}

fn feed_row(row: &Row) -> Result<FeedRow> {
    let read = || -> Result<_, tokio_postgres::Error> {
        Ok((
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get::<_, Option<i64>>(3)?,
            row.try_get::<_, Option<String>>(2)?,
        ))
    };
    let (next_position, epoch, position, stream) = read().map_err(|e| {
        Error::with_source(
            ErrorKind::Decode {
                what: "a row of the feed".into(),
            },
            e,
        )
    })?;
    let event = position
        .map(|_| RecordedEvent::from_row(row, 3, stream.unwrap_or_default()))
        .transpose()?;
    Ok(FeedRow {
        next_position,
        epoch,
        event,
    })
}
