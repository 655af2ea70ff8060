//! [`Inside`]: messages that the engine sends to itself: children to start, and their ends to tell to who waits for them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{PublishError, Published};
use crate::history::Parent;
use crate::saga::EncodedStart;
use crate::starting::{Beginning, Next, Planned};
use crate::storage::{AnswerItem, ClaimedMessage, DeliverItem, Storage, encode};
use crate::topology::Topology;

/// Handles messages that never leave the database.
pub(crate) struct Inside {
    storage: Storage,
    topologies: HashMap<(String, i32), Arc<Topology>>,
    holder: String,
    ttl: std::time::Duration,
}

/// What a `$answer` holds.
#[derive(Deserialize)]
struct AnswerParent {
    saga: String,
    instance: String,
    step: String,
    activation: u32,
    request: u32,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    data: Value,
}

impl Inside {
    pub(crate) const START: &'static str = "$start_saga";
    pub(crate) const ANSWER: &'static str = "$answer";
    pub(crate) const KINDS: &'static [&'static str] = &[Self::START, Self::ANSWER];

    pub(crate) fn new(
        storage: Storage,
        holder: String,
        ttl: std::time::Duration,
        topologies: HashMap<(String, i32), Arc<Topology>>,
    ) -> Self {
        Self {
            storage,
            topologies,
            holder,
            ttl,
        }
    }

    pub(super) async fn handle(&self, message: &ClaimedMessage) -> Result<Published, PublishError> {
        if message.kind == Self::START {
            self.start(message).await
        } else {
            self.answer(message).await
        }
    }

    async fn start(&self, message: &ClaimedMessage) -> Result<Published, PublishError> {
        let start = EncodedStart::deserialize(&message.data)
            .map_err(|e| PublishError::permanent(format!("a child that cannot be read: {e}")))?;
        let key = (start.saga, start.topology_version);
        let topology = self.topologies.get(&key).ok_or_else(|| {
            let (saga, version) = &key;
            PublishError::transient(format!(
                "this worker does not know version {version} of saga {saga:?}"
            ))
        })?;
        let beginning = Beginning {
            instance: start.instance,
            state: start.state,
            trigger: start.trigger,
            parent: Some(Parent {
                saga: message.saga.clone(),
                instance: message.instance.clone(),
                step: message.step.clone(),
                activation: message.activation,
                request: message.request,
            }),
        };
        let planned = Planned::new(topology, beginning, Next::Anybody)
            .map_err(|e| PublishError::permanent(e.to_string()))?;
        let items = std::slice::from_ref(&planned.item);
        let results = self.storage.start(items, &self.holder, self.ttl).await?;
        match results.first() {
            Some(result) if result.outcome == "invalid" => Err(PublishError::permanent(
                result.reason.clone().unwrap_or_default(),
            )),
            // Also when it exists: it was started before, with this message most likely.
            _ => Ok(Published::sent()),
        }
    }

    async fn answer(&self, message: &ClaimedMessage) -> Result<Published, PublishError> {
        let answer = AnswerParent::deserialize(&message.data)
            .map_err(|e| PublishError::permanent(format!("an end that cannot be read: {e}")))?;
        let item = DeliverItem {
            saga: &answer.saga,
            instance: &answer.instance,
            step: &answer.step,
            undo: false,
            activation: Some(answer.activation),
            request: answer.request,
            answer: AnswerItem {
                ok: true,
                kind: answer.kind.as_deref(),
                data: Some(&answer.data),
                error: None,
                id: Some(&message.key),
            },
        };
        let item = encode(&item).map_err(|e| PublishError::permanent(e.to_string()))?;
        self.storage.deliver(std::slice::from_ref(&item)).await?;
        Ok(Published::sent())
    }
}
