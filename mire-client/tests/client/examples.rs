//! The examples run.

use super::common::fixture;

#[path = "../../examples/bank_account.rs"]
mod bank_account;
#[path = "../../examples/batched_write.rs"]
mod batched_write;
#[path = "../../examples/commands.rs"]
mod commands;
#[path = "../../examples/concurrency.rs"]
mod concurrency;
#[path = "../../examples/flights/main.rs"]
mod flights;
#[path = "../../examples/multi_replica.rs"]
mod multi_replica;
#[path = "../../examples/projection.rs"]
mod projection;
#[path = "../../examples/quickstart.rs"]
mod quickstart;
#[path = "../../examples/read_your_writes.rs"]
mod read_your_writes;
#[path = "../../examples/rebuild.rs"]
mod rebuild;
#[path = "../../examples/snapshot.rs"]
mod snapshot;
#[path = "../../examples/transaction_scope.rs"]
mod transaction_scope;

#[tokio::test(flavor = "multi_thread")]
async fn example_bank_account_runs() {
    let f = fixture().await;
    bank_account::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_commands_runs() {
    let f = fixture().await;
    commands::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_concurrency_runs() {
    let f = fixture().await;
    concurrency::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_quickstart_runs() {
    let f = fixture().await;
    quickstart::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_snapshot_runs() {
    let f = fixture().await;
    snapshot::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_transaction_scope_runs() {
    let f = fixture().await;
    transaction_scope::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_batched_write_runs() {
    let f = fixture().await;
    batched_write::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_flights_comes_to_the_same_numbers_twice() {
    let f = fixture().await;
    flights::run(&f.database.url, indicatif::ProgressBar::hidden())
        .await
        .unwrap();
    let events = f.number("SELECT count(*) FROM mire.events").await;
    flights::run(&f.database.url, indicatif::ProgressBar::hidden())
        .await
        .unwrap();
    assert_eq!(
        f.number("SELECT count(*) FROM mire.events").await,
        events,
        "telling it again changes nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn example_projection_runs() {
    let f = fixture().await;
    projection::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_multi_replica_runs() {
    let f = fixture().await;
    multi_replica::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_rebuild_runs() {
    let f = fixture().await;
    rebuild::run(&f.database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_read_your_writes_runs() {
    let f = fixture().await;
    read_your_writes::run(&f.database.url).await.unwrap();
}
