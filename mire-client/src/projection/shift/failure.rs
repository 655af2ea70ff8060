//! What a shift does when a handler fails or the database is away: patience first, then the subscription's policy.

use std::time::Duration;

use super::{Ahead, Shift};
use crate::connection::calls;
use crate::error::{BoxError, Error};
use crate::event::RecordedEvent;
use crate::projection::halt::Halt;
use crate::projection::measure;
use crate::projection::page::Tenure;
use crate::projection::retry::{OnFailure, doubled};
use crate::projection::worker::check_epoch;

impl Shift<'_> {
    /// The database is away: waits a little, for as long as the partition is ours.
    pub(super) async fn sit_out(&self, error: &Error, outages: &mut u32) -> Result<(), Halt> {
        let pause = doubled(Duration::from_millis(20), *outages, Duration::from_secs(2));
        *outages += 1;
        tracing::warn!(subscription = self.subscribed.name(), partition = self.tenure.partition, %error, ?pause, "the database is not there");
        self.hold.while_working(tokio::time::sleep(pause)).await
    }

    /// A handler has failed on an event so many times: waits before the next attempt, or gives up. True when the event
    /// has been parked.
    pub(super) async fn failed(
        &mut self,
        event: &RecordedEvent,
        attempts: u32,
        error: &BoxError,
    ) -> Result<bool, Halt> {
        let (name, partition) = (self.subscribed.name(), self.tenure.partition);
        let text = said(error);
        measure::failed(name);
        if let Some(pause) = self.subscribed.retry.pause_after(attempts) {
            tracing::warn!(
                subscription = name, partition, position = event.position, stream = %event.stream, attempts, error = %text, ?pause,
                "handler failed, trying again"
            );
            if attempts == 1 {
                self.report(event.position, &text, attempts, "note").await?;
            }
            self.hold.while_working(tokio::time::sleep(pause)).await?;
            return Ok(false);
        }
        match self.subscribed.on_failure {
            OnFailure::Park => {
                self.park(event, &text, attempts).await?;
                Ok(true)
            }
            OnFailure::Stop => {
                self.stop_subscription(event, &text, attempts).await?;
                Err(Halt::Paused)
            }
        }
    }

    pub(super) async fn park(
        &mut self,
        event: &RecordedEvent,
        text: &str,
        attempts: u32,
    ) -> Result<(), Halt> {
        // What was fetched before the stream is parked may hold its events; what is fetched after does not.
        if let Ahead::Fetching(task) = std::mem::replace(&mut self.ahead, Ahead::Nothing) {
            let page = self.joined(task).await?;
            check_epoch(self.epoch, page.epoch)?;
            self.ahead = Ahead::Here(page);
        }
        self.report(event.position, text, attempts, "park").await?;
        measure::parked(self.subscribed.name());
        tracing::error!(
            subscription = self.subscribed.name(), partition = self.tenure.partition, position = event.position,
            stream = %event.stream, version = event.version, attempts, error = text,
            "event parked: its stream is held back until an operator has it retried or skipped"
        );
        Ok(())
    }

    pub(super) async fn stop_subscription(
        &mut self,
        event: &RecordedEvent,
        text: &str,
        attempts: u32,
    ) -> Result<(), Halt> {
        // A checkpoint clears the error that is shown, so it goes first.
        self.save_checkpoint().await?;
        self.report(event.position, text, attempts, "stop").await?;
        tracing::error!(
            subscription = self.subscribed.name(), partition = self.tenure.partition, position = event.position,
            stream = %event.stream, version = event.version, attempts, error = text,
            "subscription stopped: it is paused until an operator resumes it"
        );
        Ok(())
    }

    pub(super) async fn report(
        &self,
        position: i64,
        error: &str,
        attempts: u32,
        action: &str,
    ) -> Result<(), Halt> {
        let attempts = i32::try_from(attempts).unwrap_or(i32::MAX);
        let Tenure {
            name,
            partition,
            fence,
        } = &self.tenure;
        self.repeat(
            &calls::REPORT_FAILURE,
            &[
                name, partition, fence, &position, &error, &attempts, &action,
            ],
        )
        .await
    }
}

/// What an error says, in one line, with what the database said if it was that.
pub(super) fn said(error: &BoxError) -> String {
    match error
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(|e| e.as_db_error())
    {
        Some(db) => format!("{}: {}", db.code().code(), db.message()),
        None => error.to_string(),
    }
}
