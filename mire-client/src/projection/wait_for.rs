//! Read your writes: wait until a read model has caught up with one's own save.

use std::time::{Duration, Instant};

use tracing::instrument;

use crate::connection::{Conn, PrivateConn, Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::store::{EventStore, Recorded};

/// What to wait for: a position, or what a save or an append has [`Recorded`], which only waits for the partition that its
/// stream is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpTo<'a> {
    position: i64,
    stream: Option<&'a str>,
}

impl From<i64> for UpTo<'_> {
    fn from(position: i64) -> Self {
        Self {
            position,
            stream: None,
        }
    }
}

impl<'a> From<&'a Recorded> for UpTo<'a> {
    fn from(recorded: &'a Recorded) -> Self {
        Self {
            position: recorded.position.unwrap_or_default(),
            stream: Some(&recorded.stream),
        }
    }
}

impl EventStore {
    /// Waits until a subscription has handled everything up to a position, at most for `timeout`: what its read model
    /// answers after that includes it. Nothing is polled; a caller who must wait has a connection of its own meanwhile.
    ///
    /// ```no_run
    /// # use mire_client::{Aggregate, AggregateRoot, EventStore};
    /// # use std::time::Duration;
    /// # async fn f<A: Aggregate>(store: EventStore, mut account: AggregateRoot<A>) -> mire_client::Result<()> {
    /// let recorded = store.save(&mut account).await?;
    /// store.wait_for("balances", &recorded, Duration::from_secs(5)).await?;
    /// // … now read the balance
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`is_behind`](Error::is_behind) when the time is up, `42704` for an unknown subscription.
    #[instrument(level = "debug", skip_all, fields(%subscription), err(level = "debug"))]
    pub async fn wait_for<'a>(
        &self,
        subscription: &str,
        up_to: impl Into<UpTo<'a>>,
        timeout: Duration,
    ) -> Result<i64> {
        /// A wait whose caller has gone ends on the server after this long at the latest.
        const TURN: Duration = Duration::from_secs(30);
        let up_to = up_to.into();
        let give_up_at = Instant::now() + timeout;
        let mut checkpoint = self
            .subscription_checkpoint(subscription, up_to.stream)
            .await?;
        if checkpoint < up_to.position {
            let conn = self.connector.waiting().await?;
            loop {
                let left = give_up_at.saturating_duration_since(Instant::now());
                let turn = left.min(TURN);
                checkpoint = wait_once(&conn, subscription, up_to, turn).await?;
                if checkpoint >= up_to.position || turn == left {
                    self.connector.done_waiting(conn);
                    break;
                }
            }
        }
        if checkpoint >= up_to.position {
            return Ok(checkpoint);
        }
        Err(Error::new(ErrorKind::Behind {
            subscription: subscription.to_owned(),
            position: up_to.position,
            checkpoint,
        }))
    }

    /// How far a subscription has handled everything: its slowest partition, or the one that a stream is in.
    ///
    /// # Errors
    /// `42704` for an unknown subscription.
    #[instrument(level = "debug", skip_all, fields(%subscription), err(level = "debug"))]
    pub async fn subscription_checkpoint(
        &self,
        subscription: &str,
        stream: Option<&str>,
    ) -> Result<i64> {
        let doing = Doing::Reading(subscription);
        let conn = self.connector.pooled().await?;
        let row = conn
            .row(
                &calls::SUBSCRIPTION_CHECKPOINT,
                &[&subscription, &stream],
                doing,
            )
            .await?;
        // No partition has a stream that does not exist.
        let checkpoint: Option<i64> = row.try_get(0).map_err(|e| from_driver(e, doing))?;
        Ok(checkpoint.unwrap_or_default())
    }
}

async fn wait_once(
    conn: &Conn<PrivateConn>,
    name: &str,
    up_to: UpTo<'_>,
    timeout: Duration,
) -> Result<i64> {
    let doing = Doing::Reading(name);
    let row = conn
        .row(
            &calls::WAIT_FOR_CHECKPOINT,
            &[
                &name,
                &up_to.position,
                &timeout.as_secs_f64(),
                &up_to.stream,
            ],
            doing,
        )
        .await?;
    let checkpoint: Option<i64> = row.try_get(0).map_err(|e| from_driver(e, doing))?;
    Ok(checkpoint.unwrap_or_default())
}
