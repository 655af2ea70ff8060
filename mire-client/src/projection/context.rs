//! What all workers of a runner, and of a subscription, have in common.

use std::time::Duration;

use tokio::sync::watch;

use super::handler::Drive;
use super::retry::{OnFailure, RetryPolicy};
use super::subscription::Subscription;
use crate::store::EventStore;

/// What a runner's workers share.
pub(crate) struct Context {
    pub(crate) store: EventStore,
    /// Names this runner and no other.
    pub(crate) holder: String,
    pub(crate) ttl: Duration,
}

/// A subscription and its handler.
pub(crate) struct Subscribed {
    pub(crate) definition: Subscription,
    pub(crate) handler: Box<dyn Drive>,
    pub(crate) retry: RetryPolicy,
    pub(crate) on_failure: OnFailure,
    /// How far there is something to fetch, as far as is known.
    pub(crate) news: watch::Sender<i64>,
    pub(crate) status: watch::Sender<Status>,
}

impl Subscribed {
    pub(crate) fn name(&self) -> &str {
        &self.definition.name
    }
}

/// What the last look at the database said about a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Counts the looks.
    pub(crate) look: u64,
    pub(crate) paused: bool,
    /// Partitions for which `fetch_parked` has something.
    pub(crate) parked_ready: Vec<i32>,
}
