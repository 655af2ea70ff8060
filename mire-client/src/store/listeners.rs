//! Who in this program wants to hear at once of what the program itself appends.

use std::sync::{PoisonError, RwLock, Weak};

use super::Recorded;

/// Hears of appends.
pub(crate) trait Listener: Send + Sync {
    /// Events of a stream have been committed, the last one at this position; others before it may still be under way.
    fn appended(&self, stream: &str, position: i64);
}

/// All who listen to a store.
#[derive(Default)]
pub(crate) struct Listeners(RwLock<Vec<Weak<dyn Listener>>>);

impl Listeners {
    /// Lets somebody listen for as long as they live.
    pub(crate) fn add(&self, listener: Weak<dyn Listener>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(listener);
    }

    pub(crate) fn tell(&self, recorded: &Recorded) {
        let Some(position) = recorded.position else {
            return;
        };
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for listener in all.iter().filter_map(Weak::upgrade) {
            listener.appended(&recorded.stream, position);
        }
    }
}
