//! [`Core`]: what a runner does, without the types of its saga.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use mire_client::{EventStore, Json, Transaction};
use tokio::sync::{Semaphore, watch};

use super::Delivery;
use super::endings::Endings;
use crate::answer::Answer;
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::gather::Gather;
use crate::hand::{Choices, Desk, Driver, EFFECT_TIMEOUT, End, Hand, Quarantine, Stop};
use crate::history::Instance;
use crate::starting::{Beginning, Next, Planned};
use crate::storage::{Claimed, DeliverItem, ItemResult, Storage, encode, fresh_id};
use crate::topology::Topology;

/// How long an instance outlives a runner that died with it in hand.
const TTL: Duration = Duration::from_secs(10);
/// So many effects run at the same time.
const EFFECTS: usize = 256;

/// A runner without types.
pub(crate) struct Core {
    pub(crate) topology: Arc<Topology>,
    pub(crate) storage: Storage,
    pub(crate) endings: Endings,
    driver: Arc<Driver>,
    starts: Gather,
    signals: Gather,
    /// Keeps the desk's switch alive.
    _stop: watch::Sender<Stop>,
}

impl Core {
    pub(crate) fn new(topology: Arc<Topology>, store: EventStore) -> Self {
        Self::with(topology, store, EFFECT_TIMEOUT)
    }

    /// One like this, with another limit for effects.
    pub(crate) fn limited(&self, effect_timeout: Duration) -> Self {
        let store = self.endings.store().clone();
        Self::with(self.topology.clone(), store, effect_timeout)
    }

    fn with(topology: Arc<Topology>, store: EventStore, effect_timeout: Duration) -> Self {
        let storage = Storage::new(&store);
        let (switch, stop) = watch::channel(Stop::Not);
        let holder = format!("runner-{}", uuid::Uuid::now_v7().simple());
        let choices = Choices {
            holder: holder.clone(),
            ttl: TTL,
            quarantine: Quarantine {
                attempts: 5,
                backoff: Duration::from_secs(1),
            },
            linger: Duration::ZERO,
            // As many as callers want.
            instances: Semaphore::MAX_PERMITS,
            effects: EFFECTS,
            effect_timeout,
            stop,
        };
        let starts = {
            let storage = storage.clone();
            Gather::new(move |items| {
                let (storage, holder) = (storage.clone(), holder.clone());
                async move { storage.start(&items, &holder, TTL).await }.boxed()
            })
        };
        let signals = {
            let storage = storage.clone();
            Gather::new(move |items| {
                let storage = storage.clone();
                async move { storage.signal(&items).await }.boxed()
            })
        };
        Self {
            endings: Endings::new(store, topology.name),
            driver: Arc::new(Driver::new(
                Arc::new(Desk::new(storage.clone(), choices)),
                topology.clone(),
            )),
            topology,
            storage,
            starts,
            signals,
            _stop: switch,
        }
    }

    /// True when it is new.
    pub(crate) async fn start(&self, beginning: Beginning) -> Result<bool> {
        let planned = Planned::new(&self.topology, beginning, Next::Starter)?;
        let asked_at = Instant::now();
        let result = self.starts.call(planned.item).await?;
        let mut known = planned.known;
        match result.outcome.as_str() {
            "started" => {}
            // Sent again after its answer was lost, and others go on with it already.
            "duplicate" if result.fence.is_none() => return Ok(true),
            "duplicate" => {}
            "exists" => return Ok(false),
            _ => return Err(result.refused(self.topology.name, &known.instance.instance)),
        }
        known.instance.version = result.version.unwrap_or(1);
        let Some(fence) = result.fence else {
            if !planned.status.is_ended() {
                self.driver.cache.put(known);
            }
            return Ok(true);
        };
        let Instance { saga, instance, .. } = &known.instance;
        let desk = &self.driver.desk;
        let held = desk.keeper.hold(saga, instance, fence, asked_at);
        let hand = Hand::new(
            desk,
            &self.topology,
            known,
            Some(held),
            planned.status.as_str(),
            0,
        );
        self.work(hand, Vec::new()).await?;
        Ok(true)
    }

    /// Each with an answer of its own, in one call.
    pub(crate) async fn start_many(&self, beginnings: Vec<Beginning>) -> Vec<Result<bool>> {
        join_all(beginnings.into_iter().map(|b| self.start(b))).await
    }

    /// Hand over to whoever comes first once the transaction has been committed.
    pub(crate) async fn start_in(
        &self,
        tx: &mut Transaction,
        beginning: Beginning,
    ) -> Result<bool> {
        start_in(&self.storage, &self.topology, tx, beginning).await
    }

    /// Until it is laid down. The second: whether the inputs were committed.
    async fn work(&self, hand: Hand, inputs: Vec<Input>) -> Result<(End, bool)> {
        let work = self.driver.begin(hand, inputs, None);
        let end = work.end.await.map_err(|_| Error::Closed)?;
        Ok((end, work.committed.borrow().is_some()))
    }

    /// An answer together with all that follows from it; or, when somebody else has the instance in hand, the answer alone.
    pub(crate) async fn deliver(
        &self,
        instance: &str,
        step: &str,
        answer: Answer,
    ) -> Result<Delivery> {
        let no = self.topology.step_no(step);
        if no.is_none_or(|n| answer.undo && self.topology.steps[n].undo.is_none()) {
            let loaded = self.load(instance).await?;
            if loaded.topology_version != self.topology.version {
                return self.record(instance, step, &answer).await;
            }
            return Err(Error::UnknownStep {
                saga: self.topology.name.to_owned(),
                step: step.to_owned(),
            });
        }
        let Some(known) = self.driver.known(instance).await? else {
            return self.record(instance, step, &answer).await;
        };
        let input = Input::Answer {
            step: step.to_owned(),
            undo: answer.undo,
            activation: answer.activation,
            request: answer.request,
            answer: answer.answer.clone(),
            id: answer.id.clone(),
        };
        match self.work(self.driver.hand(known), vec![input]).await? {
            (End::Duplicate(known), _) => {
                self.driver.cache.put(*known);
                Ok(Delivery::Duplicate)
            }
            (End::Rest(..), _) | (_, true) => Ok(Delivery::Driven),
            (End::Failed(error), _) if !error.is_retryable() => Err(error),
            (_, false) => self.record(instance, step, &answer).await,
        }
    }

    /// Does what can be done now about an instance, unless somebody else has it in hand.
    pub(crate) async fn advance(&self, instance: &str) -> Result<()> {
        self.driver.cache.take(instance);
        let Some(known) = self.driver.known(instance).await? else {
            return Ok(());
        };
        match self.work(self.driver.hand(known), Vec::new()).await? {
            (End::Failed(error), _) => Err(error),
            (End::Fault(fault), _) => Err(Error::Unreadable {
                saga: self.topology.name.to_owned(),
                instance: instance.to_owned(),
                reason: fault.0,
            }),
            _ => Ok(()),
        }
    }

    /// The instance as the database has it.
    pub(crate) async fn load(&self, instance: &str) -> Result<Claimed> {
        self.driver.load(instance).await
    }

    pub(crate) async fn signal(&self, item: Json) -> Result<ItemResult> {
        self.signals.call(item).await
    }

    /// The answer alone; a worker goes on from there.
    async fn record(&self, instance: &str, step: &str, answer: &Answer) -> Result<Delivery> {
        // With an id of its own it may be sent again when the connection is lost.
        let id = answer.id.clone().unwrap_or_else(fresh_id);
        let item = encode(&DeliverItem {
            saga: self.topology.name,
            instance,
            step,
            undo: answer.undo,
            activation: answer.activation,
            request: answer.request,
            answer: answer.item(&id),
        })?;
        let result = self.driver.desk.answers.call(item).await?;
        match result.outcome.as_str() {
            "delivered" => Ok(Delivery::Recorded),
            "duplicate" => Ok(Delivery::Duplicate),
            _ => Err(result.refused(self.topology.name, instance)),
        }
    }
}

/// As part of the transaction that appends what triggers it.
pub(crate) async fn start_in(
    storage: &Storage,
    topology: &Topology,
    tx: &mut Transaction,
    beginning: Beginning,
) -> Result<bool> {
    let planned = Planned::new(topology, beginning, Next::Anybody)?;
    let results = storage
        .start_in(tx, std::slice::from_ref(&planned.item))
        .await?;
    let Some(result) = results.into_iter().next() else {
        return Err(Error::Invalid {
            reason: "no answer".into(),
        });
    };
    match result.outcome.as_str() {
        "started" => Ok(true),
        "exists" => Ok(false),
        _ => Err(result.refused(topology.name, &planned.known.instance.instance)),
    }
}
