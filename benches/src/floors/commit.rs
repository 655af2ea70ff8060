//! Empty durable commits. One that writes nothing would sync nothing, so each carries a message of a byte.

use std::future::Future;

use anyhow::Result;
use tokio_postgres::Client;

use crate::side::{Ready, Side, Work, together};
use crate::world::World;

const COMMIT: &str = "SELECT pg_logical_emit_message(true, 'x', 'y')";

/// So many tasks that commit so often, each on a connection of its own.
pub(crate) fn commits(tasks: usize, each: usize) -> Side {
    Side::new(move |world| async move {
        let work = durable_commits(&world, tasks, each).await?;
        let counted = world.clone();
        let before = synced(&counted.observer).await?;
        Ok(Ready::new(
            async move {
                work.await?;
                Ok(Work::of(tasks * each))
            },
            async move {
                // Commits at the same time may share a sync, but there is no commit without one.
                anyhow::ensure!(
                    synced(&counted.observer).await? > before,
                    "nothing was written"
                );
                Ok(())
            },
        ))
    })
}

/// Connects and prepares; the future that is returned commits.
pub(crate) async fn durable_commits(
    world: &World,
    tasks: usize,
    each: usize,
) -> Result<impl Future<Output = Result<()>> + Send + 'static> {
    let mut sessions = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let client = world.connect().await?;
        let statement = client.prepare(COMMIT).await?;
        client.query_one(&statement, &[]).await?;
        sessions.push((client, statement));
    }
    Ok(async move {
        together(sessions.into_iter().map(|(client, statement)| async move {
            for _ in 0..each {
                client.query_one(&statement, &[]).await?;
            }
            Ok(())
        }))
        .await?;
        Ok(())
    })
}

async fn synced(observer: &Client) -> Result<i64> {
    let row = observer
        .query_one("SELECT (pg_current_wal_flush_lsn() - '0/0')::int8", &[])
        .await?;
    Ok(row.get(0))
}
