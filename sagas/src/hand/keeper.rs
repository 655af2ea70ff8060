//! [`Keeper`]: all leases that a process holds on instances, renewed together, in one statement a third of the time to live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::stream_of;
use crate::measure;
use crate::storage::Storage;

/// The leases of a process.
#[derive(Clone)]
pub(crate) struct Keeper(Arc<Inner>);

struct Inner {
    storage: Storage,
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By stream.
    held: HashMap<String, Entry>,
    renewing: bool,
}

struct Entry {
    saga: String,
    instance: String,
    fence: i64,
    /// By this process's clock, counted from before the call that gave it was sent.
    safe_until: Instant,
    lost: watch::Sender<bool>,
    poked: Arc<Notify>,
}

/// A lease on an instance; let go of when it is dropped, which tells the database nothing.
pub(crate) struct Held {
    keeper: Keeper,
    stream: String,
    fence: i64,
    lost: watch::Receiver<bool>,
    poked: Arc<Notify>,
}

impl Keeper {
    pub(crate) fn new(storage: Storage, ttl: Duration) -> Self {
        Self(Arc::new(Inner {
            storage,
            ttl,
            state: Mutex::default(),
        }))
    }

    /// A lease that was got by a call sent at `asked_at`.
    pub(crate) fn hold(&self, saga: &str, instance: &str, fence: i64, asked_at: Instant) -> Held {
        let (lost, is_lost) = watch::channel(false);
        let poked = Arc::new(Notify::new());
        let stream = stream_of(saga, instance);
        let entry = Entry {
            saga: saga.to_owned(),
            instance: instance.to_owned(),
            fence,
            safe_until: asked_at + self.0.ttl,
            lost,
            poked: poked.clone(),
        };
        let mut state = self.0.state();
        state.held.insert(stream.clone(), entry);
        if !state.renewing
            && let Ok(runtime) = Handle::try_current()
        {
            state.renewing = true;
            runtime.spawn(renew(Renewing {
                inner: self.0.clone(),
                done: false,
            }));
        }
        drop(state);
        Held {
            keeper: self.clone(),
            stream,
            fence,
            lost: is_lost,
            poked,
        }
    }

    /// Tells whoever has an instance in hand that its stream has grown; answers whether somebody has.
    pub(crate) fn poke(&self, stream: &str) -> bool {
        let state = self.0.state();
        let entry = state.held.get(stream);
        entry.inspect(|entry| entry.poked.notify_one()).is_some()
    }

    /// Whether somebody in this process has an instance in hand.
    pub(crate) fn has(&self, saga: &str, instance: &str) -> bool {
        self.0.state().held.contains_key(&stream_of(saga, instance))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.state().held.len()
    }
}

impl Held {
    pub(crate) fn fence(&self) -> i64 {
        self.fence
    }

    /// A commit that was sent at `asked_at` has renewed it.
    pub(crate) fn renewed(&self, asked_at: Instant) {
        let inner = &self.keeper.0;
        if let Some(entry) = inner.state().held.get_mut(&self.stream)
            && entry.fence == self.fence
        {
            entry.safe_until = entry.safe_until.max(asked_at + inner.ttl);
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Waits until the lease is known to be lost.
    pub(crate) async fn lost(&self) {
        let mut lost = self.lost.clone();
        // Without a keeper nobody renews it: as good as lost.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Waits until the stream has grown.
    pub(crate) async fn poked(&self) {
        self.poked.notified().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.keeper.0.state();
        if state
            .held
            .get(&self.stream)
            .is_some_and(|entry| entry.fence == self.fence)
        {
            state.held.remove(&self.stream);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that would run out before the next look but one.
    fn to_renew(&self) -> (Vec<String>, Vec<String>, Vec<i64>) {
        let by = Instant::now() + self.ttl * 2 / 3 + self.ttl / 20;
        let (mut sagas, mut instances, mut fences) = (Vec::new(), Vec::new(), Vec::new());
        for entry in self.state().held.values() {
            if entry.safe_until < by && !*entry.lost.borrow() {
                sagas.push(entry.saga.clone());
                instances.push(entry.instance.clone());
                fences.push(entry.fence);
            }
        }
        (sagas, instances, fences)
    }

    /// Marks leases that ran out without a word from the database.
    fn expire(&self) {
        let now = Instant::now();
        for entry in self.state().held.values() {
            if entry.safe_until <= now && !entry.lost.send_replace(true) {
                measure::lost(&entry.saga);
                tracing::warn!(saga = %entry.saga, instance = %entry.instance, "lease not renewed in time");
            }
        }
    }

    async fn renew_once(&self) -> crate::error::Result<()> {
        let (sagas, instances, fences) = self.to_renew();
        if fences.is_empty() {
            return Ok(());
        }
        let asked_at = Instant::now();
        let renewed = self
            .storage
            .renew(&sagas, &instances, &fences, self.ttl)
            .await?;
        let mut state = self.state();
        for (n, renewed) in renewed.into_iter().enumerate() {
            let stream = stream_of(&sagas[n], &instances[n]);
            let Some(entry) = state.held.get_mut(&stream) else {
                continue;
            };
            if entry.fence != fences[n] {
                continue;
            }
            match renewed {
                Some(true) => entry.safe_until = entry.safe_until.max(asked_at + self.ttl),
                Some(false) if !entry.lost.send_replace(true) => {
                    measure::lost(&sagas[n]);
                    tracing::warn!(saga = %sagas[n], instance = %instances[n], "lease lost");
                }
                // None: a commit of this very process has the row, most likely, and renews it.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Somebody renews; when that ends early (with its runtime), whoever holds next begins anew.
struct Renewing {
    inner: Arc<Inner>,
    done: bool,
}

impl Drop for Renewing {
    fn drop(&mut self) {
        if !self.done {
            self.inner.state().renewing = false;
        }
    }
}

async fn renew(mut renewing: Renewing) {
    let inner = renewing.inner.clone();
    loop {
        tokio::time::sleep(inner.ttl / 3).await;
        {
            let mut state = inner.state();
            if state.held.is_empty() {
                state.renewing = false;
                renewing.done = true;
                return;
            }
        }
        loop {
            let in_time = tokio::time::timeout(inner.ttl / 2, inner.renew_once()).await;
            inner.expire();
            match in_time {
                Ok(Ok(())) => break,
                Ok(Err(error)) => tracing::warn!(%error, "leases not renewed, trying again"),
                Err(_) => tracing::warn!("leases not renewed, trying again"),
            }
            tokio::time::sleep(inner.ttl / 10).await;
        }
    }
}
