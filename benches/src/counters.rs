//! Statements, commits and bytes of WAL, by the server's own counters.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::world::wait_until_alone;

/// Commits so far in all databases but the observer's. Reads count as well: each is a transaction.
///
/// Sessions report when they end, so this waits until all have.
pub(crate) async fn commits(observer: &Client) -> Result<i64> {
    wait_until_alone(observer).await?;
    let row = observer
        .query_one(
            "SELECT sum(xact_commit)::int8 FROM pg_stat_database WHERE datname <> current_database()",
            &[],
        )
        .await
        .context("counting commits")?;
    Ok(row.get(0))
}

/// Bytes of WAL written so far, also by commits that nobody waits for.
pub(crate) async fn wal_bytes(observer: &Client) -> Result<i64> {
    let row = observer
        .query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8", &[])
        .await
        .context("measuring WAL")?;
    Ok(row.get(0))
}

/// Counting statements costs both sides something, so it is done in a pass of its own and off while the clock runs.
pub(crate) async fn count_calls(observer: &Client, on: bool) -> Result<()> {
    /// Until the server has looked at its settings again.
    const SETTLING: Duration = Duration::from_millis(200);
    let (track, ids) = if on { ("top", "on") } else { ("none", "off") };
    for statement in [
        format!("ALTER SYSTEM SET pg_stat_statements.track = {track}"),
        format!("ALTER SYSTEM SET compute_query_id = {ids}"),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        observer.batch_execute(&statement).await?;
    }
    tokio::time::sleep(SETTLING).await;
    Ok(())
}

/// Forgets the statements counted so far.
pub(crate) async fn forget_calls(observer: &Client) -> Result<()> {
    observer
        .batch_execute("SELECT pg_stat_statements_reset()")
        .await
        .context("forgetting statements")
}

/// Statements that clients have sent since they were forgotten, BEGIN and COMMIT among them.
pub(crate) async fn calls(observer: &Client) -> Result<i64> {
    let row = observer
        .query_one(
            "SELECT coalesce(sum(s.calls), 0)::int8
               FROM pg_stat_statements AS s
               JOIN pg_database AS d ON d.oid = s.dbid
              WHERE s.toplevel AND d.datname <> current_database()",
            &[],
        )
        .await
        .context("counting statements")?;
    Ok(row.get(0))
}
