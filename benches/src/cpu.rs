//! CPU time of a server process: it runs on this machine.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::Client;

/// The process at a connection's other end.
pub(crate) async fn backend(client: &Client) -> Result<i32> {
    Ok(client
        .query_one("SELECT pg_backend_pid()", &[])
        .await?
        .get(0))
}

/// CPU time it has used so far, in user and kernel mode. From the scheduler's own clock: the ticks of `/proc/PID/stat`
/// are 10 ms, which is 500 appends.
pub(crate) fn used(pid: i32) -> Result<Duration> {
    let path = format!("/proc/{pid}/schedstat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let nanoseconds = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok())
        .with_context(|| format!("{path} says {text:?}"))?;
    Ok(Duration::from_nanos(nanoseconds))
}
