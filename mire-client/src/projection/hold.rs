//! What the fleet and a partition's worker share: how long the partition is surely ours, and when to stop.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::halt::Halt;

/// A partition that is held.
#[derive(Debug)]
pub(crate) struct Hold {
    fence: AtomicI64,
    /// Counted from before the request that renewed it was sent, so never later than the database's own idea.
    safe_until: Mutex<Instant>,
    stopping: AtomicBool,
    lost: AtomicBool,
    changed: Notify,
}

impl Hold {
    pub(crate) fn new(fence: i64, safe_until: Instant) -> Self {
        Self {
            fence: AtomicI64::new(fence),
            safe_until: Mutex::new(safe_until),
            stopping: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub(crate) fn fence(&self) -> i64 {
        self.fence.load(Ordering::SeqCst)
    }

    /// The same worker has taken the partition anew.
    pub(crate) fn retaken(&self, fence: i64, safe_until: Instant) {
        self.fence.store(fence, Ordering::SeqCst);
        self.renewed(safe_until);
    }

    pub(crate) fn renewed(&self, safe_until: Instant) {
        *self.deadline() = safe_until;
    }

    /// Asks the worker to finish what it has in hand and give the partition back.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Tells the worker that the partition is somebody else's.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst) || Instant::now() >= *self.deadline()
    }

    /// Does something for as long as the partition is ours.
    pub(crate) async fn while_held<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.until(false) => Err(Halt::Lost),
            done = work => Ok(done),
        }
    }

    /// Does something until the worker is to stop.
    pub(crate) async fn while_working<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.until(true) => Err(self.why_not().err().unwrap_or(Halt::Lost)),
            done = work => Ok(done),
        }
    }

    /// Whether to go on.
    pub(crate) fn why_not(&self) -> Result<(), Halt> {
        if self.is_lost() {
            return Err(Halt::Lost);
        }
        if self.is_stopping() {
            return Err(Halt::Stop);
        }
        Ok(())
    }

    /// Returns when the partition is lost, or, if asked so, when the worker is to stop.
    async fn until(&self, or_stopping: bool) {
        loop {
            // Listening first, looking then: nothing is missed in between.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_lost() || (or_stopping && self.is_stopping()) {
                return;
            }
            let deadline = *self.deadline();
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }

    fn deadline(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.safe_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
