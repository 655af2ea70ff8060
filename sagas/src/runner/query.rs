//! Asking how instances are.

use std::time::{Duration, Instant};

use super::status::requests_of;
use super::{EmittedRequest, HistoryEntry, ListFilter, ListedInstance, SagaRunner};
use crate::draw::StepStates;
use crate::error::{Error, Result};
use crate::hand::Known;
use crate::history::{Instance, StepStatus, UndoStatus};
use crate::saga::Saga;
use crate::status::SagaStatus;

impl<S: Saga> SagaRunner<S> {
    /// Where an instance is.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`Error::Pruned`].
    pub async fn status(&self, instance: &str) -> Result<SagaStatus> {
        let loaded = self.core.load(instance).await?;
        SagaStatus::of(&loaded.status)
            .ok_or_else(|| self.unreadable(instance, format!("its status is {:?}", loaded.status)))
    }

    /// How far a step is.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`Error::UnknownStep`], [`Error::Unreadable`].
    pub async fn step_status(&self, instance: &str, step: &str) -> Result<StepStatus> {
        Ok(self.states_of(instance, step).await?.0)
    }

    /// How far the undoing of a step is.
    ///
    /// # Errors
    /// As [`step_status`](Self::step_status).
    pub async fn undo_status(&self, instance: &str, step: &str) -> Result<UndoStatus> {
        Ok(self.states_of(instance, step).await?.1)
    }

    async fn states_of(&self, instance: &str, step: &str) -> Result<(StepStatus, UndoStatus)> {
        let states = self.step_states(instance).await?;
        states.get(step).copied().ok_or_else(|| Error::UnknownStep {
            saga: S::NAME.to_owned(),
            step: step.to_owned(),
        })
    }

    /// How far all steps are, and their undos: by the steps' names.
    ///
    /// # Errors
    /// As [`step_status`](Self::step_status).
    pub async fn step_states(&self, instance: &str) -> Result<StepStates> {
        let loaded = self.loaded(instance).await?;
        let status = |step: &str, undo| {
            loaded
                .progress(step, undo)
                .map_or(StepStatus::Pending, |progress| progress.status)
        };
        let steps = self.topology().steps();
        Ok(steps
            .map(|step| {
                let states = (status(step, false), status(step, true).into());
                (step.to_owned(), states)
            })
            .collect())
    }

    /// The steps that something is awaited for; an undo is called `step~undo`.
    ///
    /// # Errors
    /// As [`step_status`](Self::step_status).
    pub async fn active_steps(&self, instance: &str) -> Result<Vec<String>> {
        Ok(self.known(instance).await?.active_steps())
    }

    /// The requests of the latest activation of every step and undo, and whether they are answered.
    ///
    /// # Errors
    /// As [`step_status`](Self::step_status).
    pub async fn emitted_requests(&self, instance: &str) -> Result<Vec<EmittedRequest>> {
        Ok(requests_of(&self.loaded(instance).await?))
    }

    /// An instance in words: how it is, and what happened to it, a line each.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found).
    pub async fn describe(&self, instance: &str) -> Result<String> {
        let lines = self.core.storage.describe(S::NAME, instance).await?;
        if lines.is_empty() {
            self.core.load(instance).await?;
        }
        Ok(lines.join("\n"))
    }

    /// All that happened to an instance, in order.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found).
    pub async fn history(&self, instance: &str) -> Result<Vec<HistoryEntry>> {
        let rows = self.core.storage.history(S::NAME, instance).await?;
        if rows.is_empty() {
            self.core.load(instance).await?;
        }
        Ok(rows.into_iter().map(HistoryEntry::from).collect())
    }

    /// Instances of this saga, of all topology versions.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, filter: &ListFilter) -> Result<Vec<ListedInstance>> {
        let statuses: Option<Vec<&str>> = filter
            .statuses
            .as_ref()
            .map(|statuses| statuses.iter().map(|status| status.as_str()).collect());
        let rows = self.core.storage.list(
            S::NAME,
            statuses.as_deref(),
            filter.step.as_deref(),
            filter.min_age,
            filter.error.as_deref(),
            filter.max,
        );
        let rows = rows.await?;
        Ok(rows.into_iter().filter_map(ListedInstance::of).collect())
    }

    /// Draws an instance as a [mermaid](https://mermaid.js.org) flowchart, each step in the colour of how far it is.
    ///
    /// # Errors
    /// As [`step_status`](Self::step_status).
    pub async fn mermaid_instance(&self, instance: &str) -> Result<String> {
        let states = self.step_states(instance).await?;
        Ok(self.topology().mermaid_instance(&states))
    }

    /// Waits until an instance has ended, and tells how. Sleeps in the database, without
    /// polling, and once for all who wait in this process.
    ///
    /// # Errors
    /// [`is_not_ended`](Error::is_not_ended) when the time is up, [`is_not_found`](Error::is_not_found).
    pub async fn wait_until_ended(&self, instance: &str, timeout: Duration) -> Result<SagaStatus> {
        /// However that may be: a look now and then.
        const LOOK: Duration = Duration::from_secs(60);
        let give_up_at = Instant::now() + timeout;
        loop {
            let waiting = self.core.endings.of(instance).await?;
            let ended = waiting.ended();
            let status = self.status(instance).await?;
            if status.is_ended() {
                return Ok(status);
            }
            let left = give_up_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::NotEnded {
                    saga: S::NAME.to_owned(),
                    instance: instance.to_owned(),
                });
            }
            let _ = tokio::time::timeout(left.min(LOOK), ended).await;
        }
    }

    async fn loaded(&self, instance: &str) -> Result<Instance> {
        Ok(self.known(instance).await?.instance)
    }

    async fn known(&self, instance: &str) -> Result<Known> {
        let loaded = self.core.load(instance).await?;
        Known::of(&loaded).map_err(|fault| self.unreadable(instance, fault.0))
    }

    fn unreadable(&self, instance: &str, reason: String) -> Error {
        Error::Unreadable {
            saga: S::NAME.to_owned(),
            instance: instance.to_owned(),
            reason,
        }
    }
}
