//! [`Driver`]: takes up instances of one topology that nobody has in hand, to commit an answer together with all that follows
//! from it. It remembers those that it has laid down, so that an answer needs no load.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use super::cache::Cache;
use super::{Committal, Desk, End, Hand, Known};
use crate::engine::Input;
use crate::error::{Error, Result};
use crate::storage::Claimed;
use crate::topology::Topology;

/// So many instances are remembered.
const REMEMBERED: usize = 4096;

/// By saga and version.
pub(crate) type Drivers = HashMap<(String, i32), Arc<Driver>>;

/// A desk's work on one topology.
pub(crate) struct Driver {
    pub(crate) desk: Arc<Desk>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) cache: Cache,
}

/// An instance being worked on.
pub(crate) struct Work {
    /// Closed at the end.
    pub(crate) committed: watch::Receiver<Committal>,
    pub(crate) end: oneshot::Receiver<End>,
}

impl Driver {
    pub(crate) fn new(desk: Arc<Desk>, topology: Arc<Topology>) -> Self {
        Self {
            desk,
            topology,
            cache: Cache::new(REMEMBERED),
        }
    }

    /// From memory, or else from the database. None: this program is not the one to drive it.
    pub(crate) async fn known(&self, instance: &str) -> Result<Option<Known>> {
        if let Some(known) = self.cache.take(instance) {
            return Ok(Some(known));
        }
        let loaded = self.load(instance).await?;
        let mine = loaded.topology_version == self.topology.version;
        Ok(Known::of(&loaded).ok().filter(|_| mine))
    }

    /// The instance as the database has it.
    pub(crate) async fn load(&self, instance: &str) -> Result<Claimed> {
        let saga = self.topology.name;
        let loaded = self.desk.storage.load(saga, instance).await?;
        let (saga, instance) = (saga.to_owned(), instance.to_owned());
        match loaded {
            None => Err(Error::NotFound { saga, instance }),
            Some(loaded) if loaded.pruned => Err(Error::Pruned { saga, instance }),
            Some(loaded) => Ok(loaded),
        }
    }

    /// An instance that nobody holds: its first commit takes it.
    pub(crate) fn hand(&self, known: Known) -> Hand {
        Hand::new(&self.desk, &self.topology, known, None, "running", 0)
    }

    /// Works in a task of its own, so that a caller who goes away leaves nothing half-done. The permit is held meanwhile.
    pub(crate) fn begin(
        self: &Arc<Self>,
        hand: Hand,
        inputs: Vec<Input>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Work {
        let (tell, end) = oneshot::channel();
        let (commit, committed) = watch::channel(None);
        let driver = self.clone();
        self.desk.spawn(async move {
            let end = driver.work(hand, inputs, &commit).await;
            drop(permit);
            driver.desk.laid_down(&end);
            let _ = tell.send(end);
        });
        Work { committed, end }
    }

    /// Works until the instance is laid down, and remembers it then.
    pub(crate) async fn work(
        &self,
        hand: Hand,
        inputs: Vec<Input>,
        committed: &watch::Sender<Committal>,
    ) -> End {
        let mut end = hand.work(inputs, committed).await;
        if let End::Rest(known, _) = &mut end
            && let Some(known) = known.take()
        {
            self.cache.put(*known);
        }
        end
    }
}
