//! [`Cache`]: instances that this process has seen lately, so that an answer needs no load. What is in it may be out of
//! date: the commit finds out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Known;

/// A bounded number of instances.
pub(crate) struct Cache {
    room: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    now: u64,
    known: HashMap<String, (u64, Known)>,
}

impl Cache {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            entries: Mutex::default(),
        }
    }

    /// Takes an instance out: whoever works on it puts it back as it is then.
    pub(crate) fn take(&self, instance: &str) -> Option<Known> {
        let taken = self.entries().known.remove(instance);
        taken.map(|(_, known)| known)
    }

    pub(crate) fn clear(&self) {
        self.entries().known.clear();
    }

    pub(crate) fn put(&self, known: Known) {
        if self.room == 0 {
            return;
        }
        let mut entries = self.entries();
        entries.now += 1;
        let now = entries.now;
        let name = known.instance.instance.clone();
        if entries.known.len() >= self.room && !entries.known.contains_key(&name) {
            entries.make_room(self.room);
        }
        entries.known.insert(name, (now, known));
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Forgets the older half: that happens once in many puts.
    fn make_room(&mut self, room: usize) {
        let mut ages: Vec<u64> = self.known.values().map(|(at, _)| *at).collect();
        ages.sort_unstable();
        let middle = ages.get(room / 2).copied().unwrap_or(u64::MAX);
        self.known.retain(|_, (at, _)| *at > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand::Clock;
    use crate::history::Instance;

    fn known(name: &str) -> Known {
        Known::new(Instance::new("s", name), Clock::own())
    }

    #[test]
    fn it_never_grows_beyond_its_room_and_forgets_the_oldest_first() {
        let cache = Cache::new(4);
        for n in 0..100 {
            cache.put(known(&n.to_string()));
            assert!(cache.entries().known.len() <= 4);
        }
        assert!(cache.take("99").is_some());
        assert!(cache.take("99").is_none());
        assert!(cache.take("0").is_none());
        Cache::new(0).put(known("1"));
    }
}
