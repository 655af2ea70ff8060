//! Shared commits: 2,000 saves from 200 tasks, and how few commits that takes.
//!
//! `cargo run -p mire-client --example batched_write`

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use mire_client::{BoxError, EventStore, ExpectedVersion, NewEvent, testing};

const TASKS: usize = 200;
const APPENDS: usize = 10;

async fn append_from_everywhere(store: EventStore, prefix: &str) -> Result<f64, BoxError> {
    let started = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let store = store.clone();
        let stream = format!("{prefix}-{}-{task}", uuid::Uuid::now_v7());
        tokio::spawn(async move {
            for n in 0..APPENDS {
                let event =
                    NewEvent::untyped("batched-write.happened", &serde_json::json!({ "n": n }))?;
                let expected = ExpectedVersion::Exactly(i64::try_from(n).unwrap_or(i64::MAX));
                store.append(&stream, expected, [event]).await?;
            }
            Ok::<_, mire_client::Error>(())
        })
    });
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Commits in this database so far. A session's count arrives when it ends, so the store must be gone.
async fn commits(observer: &EventStore) -> Result<i64, BoxError> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let client = observer.pool().get().await?;
    let row = client
        .query_one(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
            &[],
        )
        .await?;
    Ok(row.get(0))
}

pub(crate) async fn run(url: &str) -> Result<(), BoxError> {
    let observer = EventStore::connect(url).await?;
    observer.migrate().await?;

    let writes = TASKS * APPENDS;
    for (name, builder) in [
        ("shared", EventStore::builder()),
        ("one each", EventStore::builder().without_shared_commits()),
    ] {
        let before = commits(&observer).await?;
        let seconds = append_from_everywhere(builder.url(url).build()?, "batched_write").await?;
        let commits = commits(&observer).await? - before;
        #[allow(clippy::cast_precision_loss)]
        let rate = writes as f64 / seconds;
        println!("{name:>9}: {writes} appends in {seconds:.2} s ({rate:.0}/s), {commits} commits");
    }
    Ok(())
}

#[tokio::main]
#[allow(dead_code)] // the tests call `run`
async fn main() -> Result<(), BoxError> {
    let database = testing::database()?;
    run(database.url()).await
}
