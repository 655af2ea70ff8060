//! [`Inside`]: messages that the engine sends to itself: children to start, and their ends to tell to who waits for them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{PublishError, Published};
use crate::effect::brief;
use crate::hand::{Desk, Drivers};
use crate::history::{Fact, Parent};
use crate::saga::EncodedStart;
use crate::starting::{Beginning, Next, Planned, undecided};
use crate::storage::{AnswerItem, ClaimedMessage, DeliverItem, encode};

/// Handles messages that never leave the database.
pub(crate) struct Inside {
    desk: Arc<Desk>,
    drivers: Arc<Drivers>,
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

    pub(crate) fn new(desk: Arc<Desk>, drivers: Arc<Drivers>) -> Self {
        Self { desk, drivers }
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
        let parent = Parent {
            saga: message.saga.clone(),
            instance: message.instance.clone(),
            step: message.step.clone(),
            activation: message.activation,
            request: message.request,
        };
        let EncodedStart {
            saga,
            instance,
            topology_version,
            state,
            trigger,
        } = start;
        let beginning = Beginning {
            instance: instance.clone(),
            state,
            trigger,
            parent: Some(parent.clone()),
        };
        let key = (saga, topology_version);
        let item = match self.drivers.get(&key) {
            Some(driver) => {
                Planned::new(&driver.topology, beginning, Next::Anybody).map(|planned| planned.item)
            }
            // Whoever drives the child need not be who drives its parent.
            None => undecided(&key.0, key.1, beginning),
        };
        let item = item.map_err(|e| PublishError::permanent(e.to_string()))?;
        let items = std::slice::from_ref(&item);
        let Desk {
            storage,
            holder,
            ttl,
            ..
        } = &*self.desk;
        let results = storage.start(items, holder, *ttl).await?;
        match results.first() {
            Some(result) if result.outcome == "invalid" => Err(PublishError::permanent(
                result.reason.clone().unwrap_or_default(),
            )),
            Some(result) if result.outcome == "exists" => {
                self.is_child(&key.0, &instance, &parent).await
            }
            _ => Ok(Published::sent()),
        }
    }

    /// One that exists was started before with this very message; or else by somebody else, and will never tell its end
    /// to who waits for it here.
    async fn is_child(
        &self,
        saga: &str,
        instance: &str,
        parent: &Parent,
    ) -> Result<Published, PublishError> {
        let loaded = self.desk.storage.load(saga, instance).await?;
        let events = match loaded.map(|loaded| loaded.events) {
            Some(Err(error)) => return Err(PublishError::transient(error)),
            Some(Ok(events)) => events,
            None => Vec::new(),
        };
        let facts = events.first().and_then(|event| event.facts.first());
        match facts {
            Some(Fact::Started {
                parent: Some(known),
                ..
            }) if known == parent => Ok(Published::sent()),
            _ => Err(PublishError::permanent(format!(
                "instance {instance:?} of saga {saga:?} was there before, and is no child of this one"
            ))),
        }
    }

    async fn answer(&self, message: &ClaimedMessage) -> Result<Published, PublishError> {
        let answer = AnswerParent::deserialize(&message.data)
            .map_err(|e| PublishError::permanent(format!("an end that cannot be read: {e}")))?;
        let item = DeliverItem {
            answer: AnswerItem {
                ok: true,
                kind: answer.kind.as_deref(),
                data: Some(&answer.data),
                error: None,
                id: Some(&message.key),
            },
            ..item_of(&answer)
        };
        let item = encode(&item).map_err(|e| PublishError::permanent(e.to_string()))?;
        let delivered = self
            .desk
            .storage
            .deliver(std::slice::from_ref(&item))
            .await?;
        let refused = delivered.into_iter().next();
        if let Some(refused) = refused.filter(|result| result.outcome == "invalid") {
            // Too large, most likely. Who waits is told that much, lest it wait for ever.
            let reason = brief(&refused.reason.unwrap_or_default());
            let failure = DeliverItem {
                answer: AnswerItem {
                    error: Some(&reason),
                    id: Some(&message.key),
                    ..AnswerItem::default()
                },
                ..item_of(&answer)
            };
            let failure = encode(&failure).map_err(|e| PublishError::permanent(e.to_string()))?;
            self.desk
                .storage
                .deliver(std::slice::from_ref(&failure))
                .await?;
        }
        Ok(Published::sent())
    }
}

fn item_of(answer: &AnswerParent) -> DeliverItem<'_> {
    DeliverItem {
        saga: &answer.saga,
        instance: &answer.instance,
        step: &answer.step,
        undo: false,
        activation: Some(answer.activation),
        request: answer.request,
        answer: AnswerItem::default(),
    }
}
