//! Having instances in hand: whoever holds the lease on one drives it, commits what follows, runs its effects, and so on
//! until nothing more can be done now. Runners and workers do the same here; they differ in how they come by an instance.

mod cache;
mod commit;
mod driver;
mod effects;
mod fault;
mod keeper;
mod known;
mod work;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use driver::{Driver, Drivers};
pub(crate) use fault::Trouble;
pub(crate) use keeper::Held;
pub(crate) use known::{Clock, Known};
pub(crate) use work::{Committal, End, Hand};

use crate::gather::Gather;
use crate::storage::Storage;
use keeper::Keeper;

/// How far a worker is with ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Not at all.
    Not,
    /// Nothing new is begun; effects that run come to their end.
    Finish,
    /// Effects are dropped.
    Now,
}

/// How long an attempt of an effect may take, if nobody says otherwise.
pub(crate) const EFFECT_TIMEOUT: Duration = Duration::from_secs(300);

/// When an instance whose drives fail is taken out of circulation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quarantine {
    pub(crate) attempts: u32,
    pub(crate) backoff: Duration,
}

impl Quarantine {
    /// After so many failed drives, this one included.
    pub(crate) fn wait_after(&self, failures: u32) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(60);
        let doubled = || {
            self.backoff
                .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        };
        (failures < self.attempts).then(|| doubled().min(LONGEST.max(self.backoff)))
    }

    /// Claimed so often without a commit in between that it looks as if it kills whoever drives it.
    pub(crate) fn is_deadly(&self, attempts: i32) -> bool {
        i64::from(attempts) > 2 * i64::from(self.attempts)
    }
}

/// What a process needs to have instances in hand.
pub(crate) struct Desk {
    pub(crate) storage: Storage,
    pub(crate) holder: String,
    pub(crate) ttl: Duration,
    pub(crate) quarantine: Quarantine,
    /// A wait so short is spent with the instance in hand.
    pub(crate) linger: Duration,
    pub(crate) commits: Gather,
    pub(crate) answers: Gather,
    pub(crate) keeper: Keeper,
    /// Hears when there may be instances to claim.
    pub(crate) instances: Arc<Notify>,
    /// Hears when there may be messages to publish.
    pub(crate) messages: Arc<Notify>,
    /// So many instances are in hand at the same time.
    pub(crate) hands: Arc<Semaphore>,
    /// So many effects run at the same time.
    pub(crate) effects: Arc<Semaphore>,
    /// So long an attempt of an effect may take.
    pub(crate) effect_timeout: Duration,
    pub(crate) stop: watch::Receiver<Stop>,
    tasks: Mutex<JoinSet<()>>,
}

/// What can be chosen about a desk.
pub(crate) struct Choices {
    pub(crate) holder: String,
    pub(crate) ttl: Duration,
    pub(crate) quarantine: Quarantine,
    pub(crate) linger: Duration,
    pub(crate) instances: usize,
    pub(crate) effects: usize,
    pub(crate) effect_timeout: Duration,
    pub(crate) stop: watch::Receiver<Stop>,
}

impl Desk {
    pub(crate) fn new(storage: Storage, choices: Choices) -> Self {
        let commits = {
            let (storage, holder, ttl) = (storage.clone(), choices.holder.clone(), choices.ttl);
            Gather::new(move |items| {
                let (storage, holder) = (storage.clone(), holder.clone());
                async move { storage.commit(&items, &holder, ttl).await }.boxed()
            })
        };
        let answers = {
            let storage = storage.clone();
            Gather::new(move |items| {
                let storage = storage.clone();
                async move { storage.deliver(&items).await }.boxed()
            })
        };
        Self {
            keeper: Keeper::new(storage.clone(), choices.ttl),
            commits,
            answers,
            storage,
            holder: choices.holder,
            ttl: choices.ttl,
            quarantine: choices.quarantine,
            linger: choices.linger,
            instances: Arc::default(),
            messages: Arc::default(),
            hands: Arc::new(Semaphore::new(choices.instances)),
            effects: Arc::new(Semaphore::new(choices.effects.max(1))),
            effect_timeout: choices.effect_timeout.max(Duration::from_millis(1)),
            stop: choices.stop,
            tasks: Mutex::default(),
        }
    }

    pub(crate) fn stop(&self) -> Stop {
        *self.stop.borrow()
    }

    /// In the background, until it is done or [`drop_everything`](Self::drop_everything).
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work)
    }

    /// What was lost may be due again by now (migrated, say), and its news came while it was in hand here.
    pub(crate) fn laid_down(&self, end: &End) {
        match end {
            End::Failed(error) => tracing::debug!(%error, "laid down"),
            End::Rest(_, status) => tracing::debug!(status = status.as_str(), "laid down"),
            other => tracing::debug!(?other, "laid down"),
        }
        if matches!(end, End::Lost) {
            self.instances.notify_one();
        }
    }

    /// Waits until nothing is in the background any more.
    pub(crate) async fn idle(&self) {
        const PAUSE: Duration = Duration::from_millis(10);
        loop {
            {
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                while tasks.try_join_next().is_some() {}
                if tasks.is_empty() {
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// As a crash would.
    pub(crate) fn drop_everything(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }
}

/// The stream of an instance.
pub(crate) fn stream_of(saga: &str, instance: &str) -> String {
    format!("$saga:{saga}-{instance}")
}
