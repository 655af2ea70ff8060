//! [`SagaWorkerBuilder`]: all the choices, none of them necessary but which sagas.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mire_client::{EventStore, Subscription};
use tokio::sync::watch;

use super::claiming::Claiming;
use super::{SagaWorker, news, strange};
use crate::builder::SagaTopology;
use crate::error::{Error, Result};
use crate::hand::{Choices, Desk, Driver, Drivers, EFFECT_TIMEOUT, Quarantine, Stop};
use crate::outbox::{AnyPublisher, EmitPublisher, Inside, Outbox, Patience};
use crate::saga::Saga;
use crate::start_on::{self, Starter};
use crate::storage::Storage;
use crate::topology::Topology;

/// Builds and starts a [`SagaWorker`].
#[must_use]
pub struct SagaWorkerBuilder {
    pub(super) store: EventStore,
    topologies: Vec<Arc<Topology>>,
    holder: String,
    ttl: Duration,
    recheck: Duration,
    grace: Option<Duration>,
    instances: usize,
    effects: usize,
    effect_timeout: Duration,
    quarantine: Quarantine,
    patience: Patience,
    publisher: Option<Arc<dyn AnyPublisher>>,
    starters: Vec<Starter>,
}

impl std::fmt::Debug for SagaWorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sagas = self.topologies.iter().map(|t| (t.name, t.version));
        f.debug_struct("SagaWorkerBuilder")
            .field("sagas", &sagas.collect::<Vec<_>>())
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl SagaWorkerBuilder {
    pub(super) fn new(store: EventStore) -> Self {
        Self {
            store,
            topologies: Vec::new(),
            holder: format!("process-{}", std::process::id()),
            ttl: Duration::from_secs(10),
            recheck: Duration::from_secs(2),
            grace: None,
            instances: 256,
            effects: 256,
            effect_timeout: EFFECT_TIMEOUT,
            quarantine: Quarantine {
                attempts: 5,
                backoff: Duration::from_secs(1),
            },
            patience: Patience {
                attempts: 20,
                first: Duration::from_secs(1),
                longest: Duration::from_secs(300),
                timeout: Duration::from_secs(60),
            },
            publisher: None,
            starters: Vec::new(),
        }
    }

    /// Drives instances of this saga, of this topology version. Say it for as many sagas and versions as there are.
    pub fn saga<S: Saga>(mut self, topology: &SagaTopology<S>) -> Self {
        self.topologies.push(topology.erased().clone());
        self
    }

    /// Also starts instances of this saga, on the events that it [starts on](crate::SagaBuilder::start_on), whoever appends
    /// them. The subscription's name is the memory of how far it has come; filters are added to it. Say
    /// [`saga`](Self::saga) as well to have them driven.
    ///
    /// Starting and going on are one transaction, and an instance's id is started once: no event is lost or counts twice.
    /// An event that cannot be read stops its own stream, and shows among the subscription's parked ones.
    pub fn start_on<S: Saga>(
        mut self,
        subscription: Subscription,
        topology: &SagaTopology<S>,
    ) -> Self {
        self.starters.push(Starter {
            subscription,
            topology: topology.erased().clone(),
            starts: topology.starts().clone(),
        });
        self
    }

    /// What this process is called (`process-PID` if not said). Something unique is added.
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holder = name.into();
        self
    }

    /// How long instances outlive a worker that died with them in hand: 10 s if not said.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How often to look without being woken: every 2 seconds if not said. Timers and news wake it anyway; this finds what
    /// another worker has handed over.
    pub fn recheck(mut self, interval: Duration) -> Self {
        self.recheck = interval.max(Duration::from_millis(10));
        self
    }

    /// How long effects may take to finish at [`shutdown`](SagaWorker::shutdown): the ttl if not said.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// How many instances it has in hand at the same time: 256 if not said.
    pub fn instances(mut self, at_once: usize) -> Self {
        self.instances = at_once;
        self
    }

    /// How many effects run at the same time, of all instances together: 256 if not said.
    pub fn effects(mut self, at_once: usize) -> Self {
        self.effects = at_once;
        self
    }

    /// How long one attempt of an effect may take, its wait for a turn aside: 5 minutes if not said, 1 ms at least,
    /// [`Duration::MAX`] for ever. One that takes longer is dropped at its next `await`, and fails like any error that may be
    /// tried again: with the same key, as its [`RetryPolicy`](crate::RetryPolicy) says. It may have taken place.
    pub fn effect_timeout(mut self, limit: Duration) -> Self {
        self.effect_timeout = limit;
        self
    }

    /// An instance whose drives fail so often in a row (5 times if not said) is parked; `backoff` after the first failure
    /// (1 s if not said), twice that after the second and so on, up to a minute, it is tried again.
    pub fn quarantine_after(mut self, attempts: u32, backoff: Duration) -> Self {
        self.quarantine = Quarantine {
            attempts: attempts.max(1),
            backoff,
        };
        self
    }

    /// Where requests go that no effect fulfils. Without a publisher they stay in the outbox, for another worker.
    pub fn publisher(mut self, publisher: impl EmitPublisher) -> Self {
        self.publisher = Some(Arc::new(publisher));
        self
    }

    /// A message that could not be published so often (20 times if not said) is dead, and its step fails. It is tried again
    /// after `first` (1 s), then twice that and so on, up to `longest` (5 minutes).
    pub fn publish_attempts(mut self, attempts: u32, first: Duration, longest: Duration) -> Self {
        self.patience = Patience {
            attempts: attempts.max(1),
            first,
            longest: longest.max(first),
            ..self.patience
        };
        self
    }

    /// How long one attempt to publish a message may take: 60 s if not said, 1 ms at least, [`Duration::MAX`] for ever. One
    /// that takes longer is dropped at its next `await`, and fails like any error that may be tried again, as
    /// [`publish_attempts`](Self::publish_attempts) says. The message may have gone out.
    pub fn publish_timeout(mut self, limit: Duration) -> Self {
        self.patience.timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// Runs in the background, until [`shutdown`](SagaWorker::shutdown), or until the answer is dropped.
    ///
    /// # Errors
    /// [`Error::Config`] without a saga, or with two of one name and version; [`Error::Store`] when the database cannot be
    /// reached.
    pub async fn spawn(self) -> Result<SagaWorker> {
        self.check()?;
        let storage = Storage::new(&self.store);
        let holder = format!("{}/{}", self.holder, uuid::Uuid::now_v7().simple());
        let now = self.store.safe_position().await?;
        let (switch, stop) = watch::channel(Stop::Not);
        let choices = Choices {
            holder: holder.clone(),
            ttl: self.ttl,
            quarantine: self.quarantine,
            linger: (self.ttl / 10).min(Duration::from_millis(200)),
            instances: self.instances.clamp(1, 100_000),
            effects: self.effects,
            effect_timeout: self.effect_timeout,
            stop,
        };
        let desk = Arc::new(Desk::new(storage.clone(), choices));
        let drivers = self.topologies.iter().map(|topology| {
            let driver = Driver::new(desk.clone(), topology.clone());
            (
                (topology.name.to_owned(), topology.version),
                Arc::new(driver),
            )
        });
        let drivers: Arc<Drivers> = Arc::new(drivers.collect());
        let inside = Inside::new(desk.clone(), drivers.clone());
        let claiming = Claiming::new(desk.clone(), drivers.clone(), self.recheck);
        let outbox = Outbox::new(
            desk.clone(),
            drivers.clone(),
            self.publisher,
            inside,
            self.patience,
            self.recheck,
        );
        let mut categories: Vec<String> = drivers
            .keys()
            .map(|(saga, _)| format!("$saga:{saga}"))
            .collect();
        categories.sort();
        categories.dedup();
        let starter = start_on::run(&self.store, &self.holder, self.ttl, self.starters).await?;
        let (store, listening, known) = (self.store.clone(), desk.clone(), drivers.clone());
        let seldom = self.recheck.saturating_mul(30);
        let task = tokio::spawn(async move {
            let work = async { tokio::join!(claiming.run(), outbox.run()) };
            tokio::select! {
                _ = work => {}
                () = news::announce(store, listening, known, categories, now) => {}
                () = strange::report(storage, drivers, seldom) => {}
            }
        });
        Ok(SagaWorker {
            holder,
            switch,
            desk,
            task: Some(task),
            starter,
            grace: self.grace.unwrap_or(self.ttl),
        })
    }

    /// Runs until something else has happened (a signal to end, say), and then leaves in good order.
    ///
    /// # Errors
    /// Those of [`spawn`](Self::spawn).
    pub async fn run_until(self, end: impl Future<Output = ()>) -> Result<()> {
        let worker = self.spawn().await?;
        end.await;
        worker.shutdown().await;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let mut known = HashSet::new();
        for topology in &self.topologies {
            if !known.insert((topology.name, topology.version)) {
                return Err(Error::Config {
                    reason: format!(
                        "two topologies of saga {:?} are of version {}",
                        topology.name, topology.version
                    ),
                });
            }
        }
        if known.is_empty() {
            return Err(Error::Config {
                reason: "a worker needs sagas".into(),
            });
        }
        let starts_nothing = |starter: &&Starter| starter.starts.is_empty();
        if let Some(starter) = self.starters.iter().find(starts_nothing) {
            return Err(Error::Config {
                reason: format!("saga {:?} starts on no event", starter.topology.name),
            });
        }
        Ok(())
    }
}
