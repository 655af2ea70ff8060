//! What erases on purpose. Needs the store's `admin` level.

use tracing::instrument;

use super::append::append_result;
use super::{EventStore, ExpectedVersion};
use crate::connection::{Talk, calls};
use crate::error::{Doing, Result};

impl EventStore {
    /// Erases a stream for good; its name is not used again. A tombstone stays in the feed. Returns the tombstone's
    /// version.
    ///
    /// # Errors
    /// [`is_not_found`](crate::Error::is_not_found), [`is_deleted`](crate::Error::is_deleted),
    /// [`is_conflict`](crate::Error::is_conflict).
    #[instrument(level = "debug", skip_all, fields(%stream), err(level = "debug"))]
    pub async fn delete_stream(&self, stream: &str, expected: ExpectedVersion) -> Result<i64> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(
                &calls::DELETE_STREAM,
                &[&stream, &expected.to_sql()],
                Doing::Writing(stream),
            )
            .await?;
        Ok(append_result(&row)?.0)
    }

    /// Erases a stream's events before a version; a tombstone at its end tells. Returns the tombstone's version. Take a
    /// snapshot first: without one the aggregate can no longer be loaded.
    ///
    /// # Errors
    /// [`is_not_found`](crate::Error::is_not_found), [`is_deleted`](crate::Error::is_deleted),
    /// [`is_invalid`](crate::Error::is_invalid) unless `before_version` is from 2 to the version + 1.
    #[instrument(level = "debug", skip_all, fields(%stream, %before_version), err(level = "debug"))]
    pub async fn truncate_stream(&self, stream: &str, before_version: i64) -> Result<i64> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(
                &calls::TRUNCATE_STREAM,
                &[&stream, &before_version],
                Doing::Writing(stream),
            )
            .await?;
        Ok(append_result(&row)?.0)
    }
}
