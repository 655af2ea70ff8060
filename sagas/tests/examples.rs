//! The examples run.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::process::Command;

use mire_client::testing::shared;

#[path = "../examples/travel_booking.rs"]
mod travel_booking;
#[path = "../examples/travel_booking_service/main.rs"]
mod travel_booking_service;

#[tokio::test(flavor = "multi_thread")]
async fn example_travel_booking_runs() {
    let database = tokio::task::spawn_blocking(|| shared().fresh_database().unwrap());
    let database = database.await.unwrap();
    travel_booking::run(&database.url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn example_travel_booking_service_runs() {
    let database = tokio::task::spawn_blocking(|| shared().fresh_database().unwrap());
    let database = database.await.unwrap();
    let worker = || {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "worker_process", "--ignored", "--quiet"]);
        program
    };
    travel_booking_service::run(&database.url, worker)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of an example, which starts it"]
async fn worker_process() {
    travel_booking_service::worker_process().await.unwrap();
}
