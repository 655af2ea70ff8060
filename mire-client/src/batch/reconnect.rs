//! Getting a connection, with patience for a database that restarts or fails over.

use std::time::{Duration, Instant};

use crate::connection::{Conn, Connector, PrivateConn};
use crate::error::{Error, ErrorKind, Result};

/// Tries until `patience` is over; what no waiting mends (a wrong password, a missing database) fails at once.
pub(super) async fn connect(
    connector: &Connector,
    patience: Duration,
) -> Result<Conn<PrivateConn>> {
    /// However impatient, a try takes its time.
    const A_TRY: Duration = Duration::from_secs(1);
    let give_up_at = Instant::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        let left = give_up_at.saturating_duration_since(Instant::now());
        let tried = tokio::time::timeout(left.max(A_TRY), connector.private()).await;
        let error = match tried {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(Error::new(ErrorKind::Connection {
                    reason: format!("the database could not be reached within {patience:?}"),
                }));
            }
        };
        if !error.is_retryable() || Instant::now() + pause >= give_up_at {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "trying again to connect");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}
