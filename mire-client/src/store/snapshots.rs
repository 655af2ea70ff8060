//! Saving with snapshots. They are disposable: failing to take one fails nothing else.

use std::fmt::Display;

use tracing::instrument;

use super::{EventStore, Recorded};
use crate::aggregate::{AggregateRoot, Snapshot, is_due, stream_name};
use crate::connection::{Talk, calls};
use crate::error::{Doing, Result};
use crate::json::Json;

impl EventStore {
    /// Saves an aggregate, and takes a snapshot when the save passes a multiple of [`Snapshot::EVERY`]. When the
    /// snapshot cannot be taken that is logged, and the save is a success all the same.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    #[instrument(level = "debug", skip_all, fields(stream = %root.stream(), events = root.pending().len()), err(level = "debug"))]
    pub async fn save_snapshotted<A: Snapshot>(
        &self,
        root: &mut AggregateRoot<A>,
    ) -> Result<Recorded> {
        let before = root.version();
        let recorded = self.save(root).await?;
        if is_due(before, recorded.version, A::EVERY)
            && let Err(error) = self.take_snapshot(root).await
        {
            tracing::warn!(stream = %root.stream(), %error, "no snapshot taken");
        }
        Ok(recorded)
    }

    /// Takes a snapshot of a saved aggregate now. False when one at least as new is there already.
    ///
    /// # Errors
    /// [`is_invalid`](crate::Error::is_invalid) when events are pending, or were saved in a
    /// transaction that has not committed (a snapshot never runs ahead of the log),
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode) when the state cannot be JSON.
    #[instrument(level = "debug", skip_all, fields(stream = %root.stream(), version = root.version()), err(level = "debug"))]
    pub async fn take_snapshot<A: Snapshot>(&self, root: &AggregateRoot<A>) -> Result<bool> {
        root.check_committed()?;
        let state = Json::new(root.state())?;
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(
                &calls::SAVE_SNAPSHOT,
                &[&root.stream(), &root.version(), &A::SCHEMA_VERSION, &state],
                // Taking it twice is as good as once.
                Doing::Reading(root.stream()),
            )
            .await?;
        Ok(row.get::<_, Option<bool>>(0).unwrap_or(false))
    }

    /// Deletes the snapshots of an aggregate, of all schema versions.
    ///
    /// # Errors
    /// The database's own.
    #[instrument(level = "debug", skip_all, fields(category = A::CATEGORY, %id), err(level = "debug"))]
    pub async fn delete_snapshots<A: Snapshot>(&self, id: impl Display) -> Result<()> {
        let stream = stream_name::<A>(&id);
        let conn = self.connector.pooled().await?;
        conn.row(
            &calls::DELETE_SNAPSHOTS,
            &[&stream, &None::<i32>],
            Doing::Reading(&stream),
        )
        .await?;
        Ok(())
    }
}
