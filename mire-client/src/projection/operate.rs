//! What an operator does with subscriptions. All but [`EventStore::subscription_status`] needs the store's `admin` level.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tracing::instrument;

use crate::connection::{Talk, calls};
use crate::error::{Doing, Result, from_driver};
use crate::store::EventStore;

/// How a partition of a subscription stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// Its number, from 0.
    pub partition: i32,
    /// The position up to which it is handled.
    pub checkpoint: i64,
    /// How many events are still to be handled.
    pub events_behind: i64,
    /// Counting stopped: there may be more.
    pub is_a_minimum: bool,
    /// How long ago the oldest of them was recorded.
    pub time_behind: Option<Duration>,
    /// Which process works on it.
    pub holder: Option<String>,
    /// Whether the subscription is paused.
    pub paused: bool,
    /// How many streams are held back.
    pub parked_streams: i64,
    /// What went wrong last, if that has not been overcome.
    pub last_error: Option<String>,
}

impl EventStore {
    /// How a subscription stands, partition by partition; none when there is no such subscription.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`](crate::ErrorKind::Connection) and the database's own.
    #[instrument(level = "debug", skip_all, fields(%name), err(level = "debug"))]
    pub async fn subscription_status(&self, name: &str) -> Result<Vec<PartitionStatus>> {
        let doing = Doing::Reading(name);
        let conn = self.connector.pooled().await?;
        let rows = conn
            .rows(&calls::SUBSCRIPTION_STATUS, &[&name])
            .await
            .map_err(|e| from_driver(e, doing))?;
        rows.iter()
            .map(|row| {
                Ok(PartitionStatus {
                    partition: row.try_get(0)?,
                    checkpoint: row.try_get(1)?,
                    events_behind: row.try_get::<_, Option<i64>>(2)?.unwrap_or_default(),
                    is_a_minimum: row.try_get::<_, Option<bool>>(3)?.unwrap_or_default(),
                    time_behind: row
                        .try_get::<_, Option<f64>>(4)?
                        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                    holder: row.try_get(5)?,
                    paused: row.try_get(6)?,
                    parked_streams: row.try_get(7)?,
                    last_error: row.try_get(8)?,
                })
            })
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(|e| from_driver(e, doing))
    }

    /// Forgets a subscription with its checkpoints and parked events. False when there was none.
    ///
    /// # Errors
    /// [`is_setup`](crate::Error::is_setup) without the admin level.
    pub async fn drop_subscription(&self, name: &str) -> Result<bool> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(&calls::DROP_SUBSCRIPTION, &[&name], Doing::Writing(name))
            .await?;
        row.try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading(name)))
    }

    /// Moves a subscription's checkpoints to a position (0: the beginning) and forgets its parked events. Empty the read
    /// model before, with its workers stopped, or do both in one transaction by SQL.
    ///
    /// # Errors
    /// `42704` for an unknown subscription, [`is_invalid`](crate::Error::is_invalid) for a bad position.
    pub async fn reset_subscription(&self, name: &str, position: i64) -> Result<()> {
        self.operate(&calls::RESET_SUBSCRIPTION, name, &[&name, &position])
            .await
    }

    /// Nothing is handed out any more, in no process, until [`resume_subscription`](Self::resume_subscription).
    ///
    /// # Errors
    /// `42704` for an unknown subscription.
    pub async fn pause_subscription(&self, name: &str) -> Result<()> {
        self.operate(&calls::PAUSE_SUBSCRIPTION, name, &[&name])
            .await
    }

    /// Ends a pause, also one that came of a failing handler: the event is tried again.
    ///
    /// # Errors
    /// `42704` for an unknown subscription.
    pub async fn resume_subscription(&self, name: &str) -> Result<()> {
        self.operate(&calls::RESUME_SUBSCRIPTION, name, &[&name])
            .await
    }

    /// Has a parked stream's events handled again, in order, from the parked one on.
    ///
    /// # Errors
    /// `42704` when that stream is not parked.
    pub async fn retry_parked(&self, name: &str, stream: &str) -> Result<()> {
        self.operate(&calls::RETRY_PARKED, name, &[&name, &stream])
            .await
    }

    /// Gives a parked event up and has the rest of its stream handled, in order.
    ///
    /// # Errors
    /// `42704` when that stream is not parked.
    pub async fn skip_parked(&self, name: &str, stream: &str) -> Result<()> {
        self.operate(&calls::SKIP_PARKED, name, &[&name, &stream])
            .await
    }

    /// After history has forked: says that this subscription's read model fits the history as it is now, or has been
    /// reset, so that its workers may go on. Returns the epoch.
    ///
    /// # Errors
    /// `42704` for an unknown subscription.
    pub async fn confirm_epoch(&self, name: &str) -> Result<i64> {
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(&calls::CONFIRM_EPOCH, &[&name], Doing::Writing(name))
            .await?;
        row.try_get(0)
            .map_err(|e| from_driver(e, Doing::Reading(name)))
    }

    async fn operate(
        &self,
        call: &'static calls::Call,
        name: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<()> {
        let conn = self.connector.pooled().await?;
        conn.rows(call, params)
            .await
            .map_err(|e| from_driver(e, Doing::Writing(name)))?;
        Ok(())
    }
}
