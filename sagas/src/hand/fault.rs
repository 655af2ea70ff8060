//! What becomes of an instance whose drive fails: it is tried again, later and later, and then quarantined with the reason.
//! Nobody else suffers.

use std::sync::Arc;
use std::time::Duration;

use super::work::{End, Hand};
use super::{Desk, Held, Known};
use crate::effect::brief;
use crate::engine::Input;
use crate::history::Fact;
use crate::measure;
use crate::storage::{Claimed, CommitItem, encode, fresh_id, millis};
use crate::topology::Fault;

impl Hand {
    /// With the lease in hand the failure is noted with the instance; without it nothing happens.
    pub(super) async fn faulted(mut self, fault: Fault, inputs: Vec<Input>) -> End {
        let Some(held) = self.held.take() else {
            return End::Fault(fault);
        };
        // What was done must not be forgotten because of what could not be decided.
        self.deliver_all(inputs).await;
        let trouble = Trouble {
            desk: self.whose.desk.clone(),
            saga: self.whose.topology.name.to_owned(),
            instance: self.whose.instance.clone(),
            version: self.known.instance.version,
            status: self.status.clone(),
            steps: self.known.active_steps(),
            failures: self.attempts + 1,
        };
        let noted = trouble.note(&fault.0, &held).await;
        drop(held);
        let end = match noted {
            Ok(()) => End::Fault(fault),
            Err(end) => end,
        };
        self.let_go(end, Vec::new()).await
    }
}

/// An instance whose drive has failed.
pub(crate) struct Trouble {
    desk: Arc<Desk>,
    saga: String,
    instance: String,
    version: i64,
    status: String,
    steps: Vec<String>,
    /// In a row, this one included.
    failures: u32,
}

impl Trouble {
    pub(crate) fn of(desk: &Arc<Desk>, claimed: &Claimed) -> Self {
        Self {
            desk: desk.clone(),
            saga: claimed.saga.clone(),
            instance: claimed.instance.clone(),
            version: claimed.version,
            status: claimed.status.clone(),
            steps: Known::of(claimed).map_or_else(|_| Vec::new(), |known| known.active_steps()),
            failures: u32::try_from(claimed.attempts)
                .unwrap_or_default()
                .saturating_add(1),
        }
    }

    /// Notes the failure, gives the lease back, and quarantines the instance when it has failed often enough.
    pub(crate) async fn note(mut self, reason: &str, held: &Held) -> Result<(), End> {
        let wait = self.desk.quarantine.wait_after(self.failures);
        if wait.is_some() {
            tracing::warn!(saga = %self.saga, instance = %self.instance, failures = self.failures, %reason, "an instance cannot be driven");
        } else {
            tracing::error!(saga = %self.saga, instance = %self.instance, failures = self.failures, %reason, "an instance is parked");
        }
        measure::failed(&self.saga, wait.is_none());
        loop {
            let error = brief(reason);
            let parked = [Fact::Parked {
                reason: error.clone(),
                by: self.desk.holder.clone(),
            }];
            let item = CommitItem {
                saga: &self.saga,
                instance: &self.instance,
                version: self.version,
                fence: Some(held.fence()),
                facts: if wait.is_some() { &[] } else { &parked },
                id: fresh_id(),
                status: if wait.is_some() {
                    &self.status
                } else {
                    "parked"
                },
                steps: &self.steps,
                error: Some(&error),
                due_in_ms: wait.map(millis),
                failed: wait.is_some(),
                ..CommitItem::default()
            };
            let item = encode(&item).map_err(End::Failed)?;
            let result = self.desk.commits.call(item).await.map_err(End::Failed)?;
            match result.outcome.as_str() {
                "committed" | "duplicate" => return Ok(()),
                "conflict" => self.look_again().await?,
                "busy" if !held.is_lost() => tokio::time::sleep(Duration::from_millis(20)).await,
                "busy" | "lease_lost" => return Err(End::Lost),
                _ => return Err(End::Failed(result.refused(&self.saga, &self.instance))),
            }
        }
    }

    async fn look_again(&mut self) -> Result<(), End> {
        let loaded = self.desk.storage.load(&self.saga, &self.instance).await;
        if let Some(loaded) = loaded.map_err(End::Failed)? {
            self.version = loaded.version;
            self.status = loaded.status;
        }
        Ok(())
    }
}
