//! What travels to the database: items of calls that take many, as JSON.

use mire_client::Json;
use serde::Serialize;
use serde_json::Value;

use crate::engine::{Drive, Message};
use crate::error::{Error, Result};
use crate::history::Fact;

/// An item of `saga_start`.
#[derive(Debug, Serialize)]
pub(crate) struct StartItem<'a> {
    pub(crate) saga: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) topology_version: i32,
    pub(crate) facts: &'a [Fact],
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) steps: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due_in_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outbox: Vec<OutboxItem<'a>>,
    pub(crate) keep: bool,
}

/// An item of `saga_commit`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CommitItem<'a> {
    pub(crate) saga: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) version: i64,
    pub(crate) fence: Option<i64>,
    pub(crate) facts: &'a [Fact],
    pub(crate) id: String,
    pub(crate) status: &'a str,
    pub(crate) steps: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) due_in_ms: Option<u64>,
    pub(crate) keep: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outbox: Vec<OutboxItem<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) withdraw: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) settled: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) failed: bool,
}

impl<'a> CommitItem<'a> {
    /// What a drive came to.
    pub(crate) fn of(drive: &'a Drive, version: i64, fence: Option<i64>, id: String) -> Self {
        Self {
            saga: &drive.instance.saga,
            instance: &drive.instance.instance,
            version,
            fence,
            facts: &drive.facts,
            id,
            status: drive.status.as_str(),
            steps: &drive.steps,
            error: drive.error.as_deref(),
            due_in_ms: drive.due.map(millis),
            keep: false,
            outbox: drive.outbox.iter().map(OutboxItem::of).collect(),
            withdraw: &drive.withdraw,
            settled: &drive.settled,
            failed: false,
        }
    }
}

/// A request for the outbox, within an item.
#[derive(Debug, Serialize)]
pub(crate) struct OutboxItem<'a> {
    key: &'a str,
    step: &'a str,
    undo: bool,
    activation: u32,
    request: u32,
    kind: &'a str,
    data: &'a Value,
}

impl<'a> OutboxItem<'a> {
    pub(crate) fn of(message: &'a Message) -> Self {
        Self {
            key: &message.key,
            step: &message.step,
            undo: message.undo,
            activation: message.activation,
            request: message.request,
            kind: &message.kind,
            data: &message.data,
        }
    }
}

/// An item of `saga_deliver`.
#[derive(Debug, Serialize)]
pub(crate) struct DeliverItem<'a> {
    pub(crate) saga: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) step: &'a str,
    pub(crate) undo: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) activation: Option<u32>,
    pub(crate) request: u32,
    #[serde(flatten)]
    pub(crate) answer: AnswerItem<'a>,
}

/// How an answer is written in items.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AnswerItem<'a> {
    pub(crate) ok: bool,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
}

/// An item of `saga_signal`.
#[derive(Debug, Serialize)]
pub(crate) struct SignalItem<'a> {
    pub(crate) saga: &'a str,
    pub(crate) instance: &'a str,
    pub(crate) signal: &'a str,
    pub(crate) data: &'a Value,
    pub(crate) id: &'a str,
}

/// An item of `outbox_ack`.
#[derive(Debug, Serialize)]
pub(crate) struct AckItem<'a> {
    pub(crate) message_no: i64,
    pub(crate) fence: i64,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response: Option<AnswerItem<'a>>,
}

/// As it goes on the wire.
pub(crate) fn encode(item: &impl Serialize) -> Result<Json> {
    Json::new(item).map_err(|error| match error {
        error if error.is_invalid() => Error::Invalid {
            reason: error.to_string(),
        },
        error => Error::encode("an item", error),
    })
}

/// Rounded up: a wait that is a little too short ends before there is anything to do.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// An id for an event that is to be recorded at most once.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
