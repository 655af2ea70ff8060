//! The way to the provider.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the provider said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done, under this number.
    Done(u64),
    /// It will be done, or not; the provider calls back.
    Later,
    /// It cannot be done.
    Refused(String),
}

/// A request to book something for a trip, or to cancel it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) kind: String,
    pub(crate) trip: String,
    pub(crate) key: String,
    pub(crate) details: Value,
    /// Where to call back.
    pub(crate) callback: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no answer: {0}")]
    NoAnswer(#[from] reqwest::Error),
    #[error("not sent: {0}")]
    NotSent(#[from] serde_json::Error),
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    provider: String,
    callback: String,
}

impl Client {
    pub(crate) fn new(provider: &str, callback: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_millis(1_000))
            .build()?;
        Ok(Self {
            http,
            provider: provider.to_owned(),
            callback: callback.to_owned(),
        })
    }

    pub(crate) async fn book(
        &self,
        kind: &str,
        trip: &str,
        details: &impl Serialize,
        key: &str,
    ) -> Result<Reply, ClientError> {
        self.post("book", kind, trip, serde_json::to_value(details)?, key)
            .await
    }

    /// By the trip alone: whatever has been booked for it, and whatever may still arrive.
    pub(crate) async fn cancel(
        &self,
        kind: &str,
        trip: &str,
        key: &str,
    ) -> Result<Reply, ClientError> {
        self.post("cancel", kind, trip, Value::Null, key).await
    }

    async fn post(
        &self,
        what: &str,
        kind: &str,
        trip: &str,
        details: Value,
        key: &str,
    ) -> Result<Reply, ClientError> {
        let order = Order {
            kind: kind.to_owned(),
            trip: trip.to_owned(),
            key: key.to_owned(),
            details,
            callback: self.callback.clone(),
        };
        let url = format!("{}/{what}", self.provider);
        let answer = self.http.post(url).json(&order).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }
}
