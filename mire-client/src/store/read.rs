//! Reading streams, page by page: never more in memory than a page.

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use tracing::instrument;

use super::EventStore;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, Result, from_driver};
use crate::event::RecordedEvent;

/// How many events a page has if nothing else was said.
pub(super) const PAGE_SIZE: u32 = 1000;

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

    #[instrument(level = "debug", skip_all, fields(stream = name, after = read.after_version), err(level = "debug"))]
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

    /// A stream's version; 0 when it does not exist.
    ///
    /// # Errors
    /// The database's own.
    #[instrument(level = "debug", skip_all, fields(%stream), err(level = "debug"))]
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
