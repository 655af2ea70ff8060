//! Getting a connection, with patience for a database that restarts or fails over.

use std::time::{Duration, Instant};

use crate::connection::{Conn, Connector, PrivateConn};
use crate::error::{Error, Result};

/// Tries until `patience` is over; what no waiting mends (a wrong password, a missing database) fails at once.
pub(super) async fn connect(
    connector: &Connector,
    patience: Duration,
) -> Result<Conn<PrivateConn>> {
    let give_up_at = Instant::now() + patience;
    let mut pause = Duration::from_millis(10);
    loop {
        match connector.private().await {
            Ok(conn) => return Ok(conn),
            Err(error) if may_pass(&error) && Instant::now() + pause < give_up_at => {
                tracing::debug!(%error, ?pause, "trying again to connect");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            Err(error) => return Err(error),
        }
    }
}

/// No answer at all, a server that starts or stops, or one that is full.
fn may_pass(error: &Error) -> bool {
    error.is_retryable()
        && error
            .sqlstate()
            .is_none_or(|s| s.starts_with("57P") || s.starts_with("53") || s.starts_with("08"))
}
