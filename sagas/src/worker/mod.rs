//! [`SagaWorker`]: drives instances that are due, whoever started them, beside any number of its like.

mod builder;
mod claiming;
mod news;
mod strange;

use std::sync::Arc;
use std::time::Duration;

use mire_client::{EventStore, ProjectionRunner};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use builder::SagaWorkerBuilder;

use crate::hand::{Desk, Stop};

/// Drives instances of sagas: those that were just started, whose answers or signals have arrived, whose timers have come,
/// and those whose worker died. It sleeps in the database until there is something to do.
///
/// Start as many processes as you like with the same sagas, or with others: each instance is in the hands of one at a time,
/// and the database refuses the work of a worker whose lease has run out. A worker that does not know the topology version
/// of an instance leaves it alone.
pub struct SagaWorker {
    holder: String,
    switch: watch::Sender<Stop>,
    desk: Arc<Desk>,
    task: Option<JoinHandle<()>>,
    starter: Option<ProjectionRunner>,
    grace: Duration,
}

impl std::fmt::Debug for SagaWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SagaWorker")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl SagaWorker {
    /// Begins with a store and nothing else.
    pub fn builder(store: EventStore) -> SagaWorkerBuilder {
        SagaWorkerBuilder::new(store)
    }

    /// What it is called in the database.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Stops: nothing new is taken up, effects that run come to their end as long as the grace lasts, and what is left is
    /// handed over to other workers.
    pub async fn shutdown(mut self) {
        /// What is dropped needs a commit to be given back.
        const LAST: Duration = Duration::from_secs(5);
        self.switch.send_replace(Stop::Finish);
        if let Some(starter) = self.starter.take()
            && let Err(error) = starter.shutdown().await
        {
            tracing::warn!(%error, "the subscriptions that start instances had stopped");
        }
        let Some(mut task) = self.task.take() else {
            return;
        };
        let all = async {
            let _ = (&mut task).await;
            // Effects of steps that have been given up: what they did has to be known all the same.
            self.desk.idle().await;
        };
        if tokio::time::timeout(self.grace, all).await.is_ok() {
            return;
        }
        self.switch.send_replace(Stop::Now);
        if !task.is_finished() && tokio::time::timeout(LAST, &mut task).await.is_err() {
            tracing::warn!(holder = %self.holder, "not everything was handed over");
            task.abort();
        }
        self.desk.drop_everything();
    }

    /// Stops at once, as a crash would: what is in hand is dropped, and leases run out by themselves. For tests.
    #[doc(hidden)]
    pub fn abort(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if let Some(starter) = self.starter.take() {
            starter.abort();
        }
        self.desk.drop_everything();
    }
}

impl Drop for SagaWorker {
    fn drop(&mut self) {
        // It leaves in good order in the background, if its runtime goes on.
        self.switch.send_if_modified(|stop| {
            let first = *stop == Stop::Not;
            if first {
                *stop = Stop::Finish;
            }
            first
        });
    }
}
