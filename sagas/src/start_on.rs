//! Starting instances on events that other programs append: a subscription whose handler starts them, in the transaction
//! that moves its checkpoint.

use std::sync::Arc;

use mire_client::{
    BoxError, EventStore, Incoming, OnFailure, ProjectionRunner, Raw, Subscription, Transaction,
    Transactional, TransactionalHandler,
};

use crate::builder::StartOn;
use crate::error::Result;
use crate::runner::{encoded, start_in};
use crate::storage::Storage;
use crate::topology::Topology;

/// A subscription that starts instances.
pub(crate) struct Starter {
    pub(crate) subscription: Subscription,
    pub(crate) topology: Arc<Topology>,
    pub(crate) starts: Arc<[StartOn]>,
}

impl Starter {
    /// Only what may start an instance is read.
    fn filtered(self) -> (Subscription, Arc<Topology>, Arc<[StartOn]>) {
        let kinds = self.starts.iter().flat_map(|start| start.kinds);
        let types = kinds
            .flat_map(|kind| std::iter::once(kind.event_type).chain(kind.aliases.iter().copied()));
        let mut subscription = self.subscription.types(types);
        let categories: Option<Vec<_>> = self.starts.iter().map(|start| start.category).collect();
        if let Some(categories) = categories {
            subscription = subscription.categories(categories);
        }
        (subscription, self.topology, self.starts)
    }
}

/// Runs them; None when there are none.
pub(crate) async fn run(
    store: &EventStore,
    holder: &str,
    ttl: std::time::Duration,
    starters: Vec<Starter>,
) -> Result<Option<ProjectionRunner>> {
    if starters.is_empty() {
        return Ok(None);
    }
    // An event that nobody can read stops its own stream, and shows in mire.parked_streams.
    let mut runner = ProjectionRunner::builder(store.clone())
        .holder(holder)
        .ttl(ttl)
        .on_failure(OnFailure::Park);
    for starter in starters {
        let (subscription, topology, starts) = starter.filtered();
        let handler = Handler {
            storage: Storage::new(store),
            topology,
            starts,
        };
        runner = runner.subscribe(subscription, Transactional(handler));
    }
    Ok(Some(runner.spawn().await?))
}

struct Handler {
    storage: Storage,
    topology: Arc<Topology>,
    starts: Arc<[StartOn]>,
}

impl TransactionalHandler for Handler {
    type Event = Raw;

    async fn handle(
        &self,
        event: &Incoming<'_, Raw>,
        tx: &mut Transaction,
    ) -> Result<(), BoxError> {
        for start_on in self.starts.iter() {
            let start = start_on.start(event.recorded);
            if let Some(start) = start.map_err(|fault| fault.to_string())? {
                start_in(&self.storage, &self.topology, tx, encoded(start)).await?;
            }
        }
        Ok(())
    }
}
