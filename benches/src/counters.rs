//! Commits and bytes of WAL.

use anyhow::{Context, Result};
use tokio_postgres::Client;

use crate::world::wait_until_alone;

/// Commits in the store's database so far. Reads count as well: each is a transaction.
///
/// Sessions report when they end, so this waits until all have.
pub(crate) async fn commits(observer: &Client) -> Result<i64> {
    wait_until_alone(observer).await?;
    let row = observer
        .query_one(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = 'mire'",
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
