//! [`Endings`]: who waits for which instance to end. One sleeper in the database for all of them, while there are any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mire_client::{EventStore, ReadAll};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::error::{Error, Result};
use crate::gather::pause;
use crate::hand::stream_of;

/// How long the sleeper stays when nobody waits any more.
const IDLE: Duration = Duration::from_secs(10);

/// Everybody in this process who waits for instances of a saga to end.
#[derive(Clone)]
pub(crate) struct Endings {
    store: EventStore,
    saga: &'static str,
    state: Arc<Mutex<State>>,
    /// One at a time makes sure that somebody sleeps.
    beginning: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    /// By stream, with how many wait.
    waiting: HashMap<String, (Arc<Notify>, usize)>,
    sleeping: bool,
}

/// Somebody who waits; stops when it is dropped.
pub(crate) struct Waiting {
    endings: Endings,
    stream: String,
    ended: Arc<Notify>,
}

impl Endings {
    pub(crate) fn new(store: EventStore, saga: &'static str) -> Self {
        Self {
            store,
            saga,
            state: Arc::default(),
            beginning: Arc::default(),
        }
    }

    pub(crate) fn store(&self) -> &EventStore {
        &self.store
    }

    /// From here on no ending is missed: look whether it has ended already, then wait.
    pub(crate) async fn of(&self, instance: &str) -> Result<Waiting> {
        let stream = stream_of(self.saga, instance);
        let ended = {
            let mut state = self.state();
            let entry = state.waiting.entry(stream.clone()).or_default();
            entry.1 += 1;
            entry.0.clone()
        };
        let waiting = Waiting {
            endings: self.clone(),
            stream,
            ended,
        };
        let _one = self.beginning.lock().await;
        if !self.state().sleeping {
            let after = self.store.safe_position().await?;
            let sleeper = Sleeper {
                endings: self.clone(),
                done: false,
            };
            self.state().sleeping = true;
            let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::Closed)?;
            runtime.spawn(sleeper.sleep(after));
        }
        Ok(waiting)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Waits until the instance has ended, or may have, from the call on.
    pub(crate) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.endings.state();
        if let Some(entry) = state.waiting.get_mut(&self.stream) {
            entry.1 -= 1;
            if entry.1 == 0 {
                state.waiting.remove(&self.stream);
            }
        }
    }
}

/// Sleeps in the database; when that ends early (with its runtime), whoever waits next begins anew.
struct Sleeper {
    endings: Endings,
    done: bool,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.endings.state();
        state.sleeping = false;
        state
            .waiting
            .values()
            .for_each(|(ended, _)| ended.notify_waiters());
    }
}

impl Sleeper {
    async fn sleep(mut self, mut after: i64) {
        let mut failures = 0;
        loop {
            match self.look(after).await {
                Ok(position) => {
                    failures = 0;
                    let idle = position == after;
                    after = position;
                    let mut state = self.endings.state();
                    if idle && state.waiting.is_empty() {
                        state.sleeping = false;
                        drop(state);
                        self.done = true;
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no endings to be had, trying again");
                    tokio::time::sleep(pause(failures)).await;
                    failures += 1;
                    // History may have been set back, or have taken a leap: everybody looks for themselves.
                    if let Ok(position) = self.endings.store.safe_position().await {
                        after = position;
                    }
                    let state = self.endings.state();
                    state
                        .waiting
                        .values()
                        .for_each(|(ended, _)| ended.notify_waiters());
                }
            }
        }
    }

    async fn look(&self, after: i64) -> Result<i64> {
        let Endings { store, saga, .. } = &self.endings;
        let safe = store.wait_for_events(after, IDLE).await?;
        if safe.position <= after {
            return Ok(after);
        }
        let read = ReadAll::new()
            .after(after)
            .categories([format!("$saga:{saga}")])
            .types(["$saga_ended"])
            .page_size(500);
        let page = store.read_page(&read).await?;
        let state = self.endings.state();
        for event in &page.events {
            if let Some((ended, _)) = state.waiting.get(&event.event.stream) {
                ended.notify_waiters();
            }
        }
        Ok(page.next_position)
    }
}
