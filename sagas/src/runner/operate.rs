//! What operators, and other programs, want of instances. It is recorded; a worker acts on it, or [`SagaRunner::drive`].

use mire_client::EventData;
use serde::Serialize;
use serde_json::Value;

use super::{Delivery, SagaRunner};
use crate::calls;
use crate::error::{Error, Result};
use crate::saga::Saga;
use crate::storage::{SignalItem, encode, fresh_id};

impl<S: Saga> SagaRunner<S> {
    /// Sends a signal that is an event.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`Error::Pruned`], [`Error::Encode`].
    pub async fn signal<E: EventData>(&self, instance: &str, signal: &E) -> Result<Delivery> {
        let data = signal
            .to_json()
            .and_then(|json| json.to::<Value>())
            .map_err(|error| Error::encode("a signal", error))?;
        let name = signal.kind().event_type;
        self.send(instance, name, &data, fresh_id()).await
    }

    /// Sends a signal by its name.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn signal_named(
        &self,
        instance: &str,
        signal: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Delivery> {
        self.signal_once(instance, signal, data, fresh_id()).await
    }

    /// Sends a signal that counts once, however often one of this id is sent.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn signal_once(
        &self,
        instance: &str,
        signal: &str,
        data: &(impl Serialize + ?Sized),
        id: impl Into<String>,
    ) -> Result<Delivery> {
        let data = serde_json::to_value(data).map_err(|e| Error::encode("a signal", e))?;
        self.send(instance, signal, &data, id.into()).await
    }

    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, %instance, %signal), err(level = "debug"))]
    async fn send(
        &self,
        instance: &str,
        signal: &str,
        data: &Value,
        id: String,
    ) -> Result<Delivery> {
        let item = encode(&SignalItem {
            saga: S::NAME,
            instance,
            signal,
            data,
            id: &id,
        })?;
        let result = self.core.signal(item).await?;
        match result.outcome.as_str() {
            "delivered" => Ok(Delivery::Recorded),
            "duplicate" => Ok(Delivery::Duplicate),
            _ => Err(result.refused(S::NAME, instance)),
        }
    }

    /// Asks an instance to turn back: what was done is undone, and it ends cancelled.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_state`](Error::is_state) when it has ended.
    pub async fn cancel(&self, instance: &str, reason: &str) -> Result<()> {
        self.operate(&calls::CANCEL, instance, Some(reason)).await
    }

    /// Has a failed undo, or all of them, tried again; effects that wait for their next attempt are tried at once. Needs
    /// the access level admin.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_state`](Error::is_state).
    pub async fn retry(&self, instance: &str, step: Option<&str>) -> Result<()> {
        self.operate(&calls::RETRY, instance, step).await
    }

    /// Goes on without a step, or without its undo when the instance has turned back. Needs the access level admin.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_state`](Error::is_state).
    pub async fn skip(&self, instance: &str, step: &str) -> Result<()> {
        self.operate(&calls::SKIP, instance, Some(step)).await
    }

    /// Forces an instance to turn back, also one that has completed. Needs the access level admin.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_state`](Error::is_state).
    pub async fn compensate(&self, instance: &str, reason: &str) -> Result<()> {
        self.operate(&calls::COMPENSATE, instance, Some(reason))
            .await
    }

    /// Stops an instance where it is, until [`resume`](Self::resume). Needs the access level admin.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_state`](Error::is_state).
    pub async fn park(&self, instance: &str, reason: &str) -> Result<()> {
        self.operate(&calls::PARK, instance, Some(reason)).await
    }

    /// Lets a parked instance go on. Needs the access level admin.
    ///
    /// # Errors
    /// [`is_not_found`](Error::is_not_found), [`is_state`](Error::is_state) when it is not parked.
    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, %instance), err(level = "debug"))]
    pub async fn resume(&self, instance: &str) -> Result<()> {
        self.core.storage.resume(S::NAME, instance).await
    }

    #[tracing::instrument(level = "debug", skip_all, fields(saga = S::NAME, %instance), err(level = "debug"))]
    async fn operate(
        &self,
        call: &'static mire_client::saga_support::Call,
        instance: &str,
        word: Option<&str>,
    ) -> Result<()> {
        self.core
            .storage
            .operate(call, S::NAME, instance, word)
            .await
    }
}
