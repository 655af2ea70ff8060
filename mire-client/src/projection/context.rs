//! What all workers of a runner, and of a subscription, have in common.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

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
    /// For pages that workers wait for: many subscriptions that all begin at once would else open a connection each, which
    /// takes longer than sharing a few.
    turns: Semaphore,
}

impl Context {
    pub(crate) fn new(store: EventStore, holder: String, ttl: Duration) -> Self {
        const TURNS: usize = 2;
        Self {
            store,
            holder,
            ttl,
            turns: Semaphore::new(TURNS),
        }
    }

    /// A turn. Who has waited for long goes without one: a call that waits for a lock is in nobody's way.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        const PATIENCE: Duration = Duration::from_millis(50);
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        turn.ok()?.ok()
    }
}

/// A subscription and its handler.
pub(crate) struct Subscribed {
    pub(crate) definition: Subscription,
    pub(crate) handler: Box<dyn Drive>,
    pub(crate) retry: RetryPolicy,
    pub(crate) on_failure: OnFailure,
    /// How far there is something to fetch, as far as is known; at first nothing is.
    pub(crate) news: watch::Sender<i64>,
    /// How far this very program has appended something that concerns it. Sooner than the news, but not sure: other appends
    /// may hold the feed back.
    pub(crate) hint: watch::Sender<i64>,
    pub(crate) status: watch::Sender<Status>,
}

impl Subscribed {
    /// Hears of an append to a stream.
    pub(crate) fn appended(&self, stream: &str, position: i64) {
        let category = stream
            .split_once('-')
            .map_or(stream, |(category, _)| category);
        let Subscription {
            categories, types, ..
        } = &self.definition;
        // With a filter by type it would often be told in vain.
        if types.is_none()
            && categories.as_ref().is_none_or(|wanted| {
                wanted.is_empty() || wanted.iter().any(|wanted| wanted == category)
            })
        {
            advance(&self.hint, position);
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.definition.name
    }
}

/// Moves a position on, never back.
pub(crate) fn advance(known: &watch::Sender<i64>, position: i64) {
    known.send_if_modified(|known| {
        let newer = position > *known;
        *known = position.max(*known);
        newer
    });
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
