//! [`EmitPublisher`]: what an application writes to get requests out of the database and to whoever fulfils them.

use std::fmt;
use std::future::Future;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::storage::ClaimedMessage;

/// A request on its way out.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutboxMessage {
    /// The saga that asks.
    pub saga: String,
    /// The instance that asks.
    pub instance: String,
    /// The step that asks.
    pub step: String,
    /// It is the step's undo that asks.
    pub undo: bool,
    /// Which activation of the step, from 1.
    pub activation: u32,
    /// Which of its requests, from 0.
    pub request: u32,
    /// The idempotency key: the same however often this message is published.
    pub key: String,
    /// The type of the request.
    pub kind: String,
    /// Its content.
    pub data: Value,
    /// From 1.
    pub attempt: u32,
}

impl OutboxMessage {
    pub(crate) fn of(claimed: &ClaimedMessage) -> Self {
        Self {
            saga: claimed.saga.clone(),
            instance: claimed.instance.clone(),
            step: claimed.step.clone(),
            undo: claimed.undo,
            activation: claimed.activation,
            request: claimed.request,
            key: claimed.key.clone(),
            kind: claimed.kind.clone(),
            data: claimed.data.clone(),
            attempt: claimed.attempts.saturating_add(1),
        }
    }

    /// Reads its content as a type.
    ///
    /// # Errors
    /// [`Error::Unreadable`] when it does not fit.
    pub fn data_as<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.data).map_err(|error| Error::Unreadable {
            saga: self.saga.clone(),
            instance: self.instance.clone(),
            reason: format!("a message of type {:?}: {error}", self.kind),
        })
    }
}

/// A message has been taken over by whoever fulfils it.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Published {
    pub(crate) answer: Option<Answer>,
}

impl Published {
    /// It is on its way; the answer comes later, through [`SagaRunner::deliver`](crate::SagaRunner::deliver).
    pub fn sent() -> Self {
        Self::default()
    }

    /// It is answered already: the acknowledgement delivers this.
    pub fn answered(answer: Answer) -> Self {
        Self {
            answer: Some(answer),
        }
    }
}

/// A message could not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishError {
    message: String,
    permanent: bool,
}

impl PublishError {
    /// May succeed when tried again, later and later; after the worker's last attempt it fails the step.
    pub fn transient(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            permanent: false,
        }
    }

    /// Will not succeed when tried again: fails the step at once.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            permanent: true,
        }
    }

    /// Whether trying again is no use.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// What happened, for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for PublishError {
    fn from(error: E) -> Self {
        Self::transient(error.to_string())
    }
}

/// Takes requests to whoever fulfils them: a broker, a service.
///
/// A message is published at least once: after a crash, or when the acknowledgement got lost, it comes again with the same
/// key. Messages of one instance are published one after the other, in the order in which they were emitted; those of
/// different instances at the same time.
pub trait EmitPublisher: Send + Sync + 'static {
    /// Publishes a message.
    ///
    /// # Errors
    /// A [transient](PublishError::transient) error, a panic, and an attempt that takes longer than
    /// [`publish_timeout`](crate::SagaWorkerBuilder::publish_timeout) is tried again; a
    /// [permanent](PublishError::permanent) one fails the step that asked.
    fn publish(
        &self,
        message: &OutboxMessage,
    ) -> impl Future<Output = Result<Published, PublishError>> + Send;
}

/// A publisher of any kind.
pub(crate) trait AnyPublisher: Send + Sync {
    fn publish<'a>(
        &'a self,
        message: &'a OutboxMessage,
    ) -> BoxFuture<'a, Result<Published, PublishError>>;
}

impl<P: EmitPublisher> AnyPublisher for P {
    fn publish<'a>(
        &'a self,
        message: &'a OutboxMessage,
    ) -> BoxFuture<'a, Result<Published, PublishError>> {
        async move { EmitPublisher::publish(self, message).await }.boxed()
    }
}
