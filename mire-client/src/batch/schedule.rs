//! Who goes when: a pure state machine, without a clock and without a database, so that it can be tested to the ground.
//!
//! Appends arrive in order and are *ready*. [`next_batch`](Scheduler::next_batch) takes what is ready, while no batch is
//! in flight. An append that comes back busy *blocks* its stream: it and everything behind it of the same stream is
//! *parked*; the first of them goes *alone*, one a stream and a bounded number in all. When it is through, the others of
//! the stream are ready again, in their order, before everything that came later.
//!
//! More streams may be blocked than can go alone at the same time. Those that wait for their turn are
//! [*probed*](Scheduler::probe) meanwhile: the first append of each goes along with the next batch, which waits for nobody.
//! So a stream that is free again does not wait for those that are not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// An append, as far as its turn is concerned.
#[derive(Debug)]
pub(crate) struct Item<T> {
    pub(crate) stream: Arc<str>,
    /// At least 1: an append of no events takes a place as well.
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    /// Parked for longer, it fails.
    pub(crate) deadline: Instant,
    pub(crate) payload: T,
}

/// What the scheduler needs to know about what it moves around.
pub(crate) trait Payload {
    /// Nobody waits for it any more, and nothing has been sent: it may be thrown away.
    fn is_abandoned(&self) -> bool;
    /// It has been parked behind a busy stream.
    fn parked(&mut self);
}

/// How much goes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_events: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) alone: usize,
}

pub(crate) struct Scheduler<T> {
    limits: Limits,
    /// In order of arrival. May hold appends of blocked streams, which are parked when their turn comes.
    ready: VecDeque<Item<T>>,
    blocked: HashMap<Arc<str>, Blocked<T>>,
    /// Blocked streams whose first append waits to go alone, in turn.
    turns: VecDeque<Arc<str>>,
    /// Those waiting streams are to be probed with the next batch.
    probe: bool,
    batch_in_flight: bool,
    alone_in_flight: usize,
}

/// A stream that somebody else's transaction sits on.
struct Blocked<T> {
    parked: VecDeque<Item<T>>,
    /// Its first append is in the batch.
    probed: bool,
}

impl<T> Default for Blocked<T> {
    fn default() -> Self {
        Self {
            parked: VecDeque::new(),
            probed: false,
        }
    }
}

impl<T: Payload> Scheduler<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ready: VecDeque::new(),
            blocked: HashMap::new(),
            turns: VecDeque::new(),
            probe: false,
            batch_in_flight: false,
            alone_in_flight: 0,
        }
    }

    /// An append has arrived.
    pub(crate) fn push(&mut self, item: Item<T>) {
        self.ready.push_back(item);
    }

    /// What goes next together; nothing while a batch is in flight.
    pub(crate) fn next_batch(&mut self) -> Option<Vec<Item<T>>> {
        if self.batch_in_flight {
            return None;
        }
        let mut batch = self.probes();
        let mut events: usize = batch.iter().map(|item| item.events).sum();
        let mut bytes: usize = batch.iter().map(|item| item.bytes).sum();
        while let Some(mut item) = self.ready.pop_front() {
            if item.payload.is_abandoned() {
                continue;
            }
            if let Some(blocked) = self.blocked.get_mut(&item.stream) {
                item.payload.parked();
                blocked.parked.push_back(item);
                continue;
            }
            events += item.events;
            bytes += item.bytes;
            if !batch.is_empty()
                && (events > self.limits.batch_events || bytes > self.limits.batch_bytes)
            {
                self.ready.push_front(item);
                break;
            }
            batch.push(item);
        }
        self.batch_in_flight = !batch.is_empty();
        self.batch_in_flight.then_some(batch)
    }

    /// Lets the streams that wait for their turn have a try in the next batch.
    pub(crate) fn probe(&mut self) {
        self.probe = true;
    }

    /// Whether there are streams to be probed.
    pub(crate) fn is_waiting_for_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The first appends of streams that wait for their turn, in turn, as far as they have room in a batch.
    fn probes(&mut self) -> Vec<Item<T>> {
        let mut probes = Vec::new();
        if !std::mem::take(&mut self.probe) {
            return probes;
        }
        let (mut events, mut bytes) = (0, 0);
        for _ in 0..self.turns.len() {
            let Some(stream) = self.turns.pop_front() else {
                break;
            };
            let Some(blocked) = self.blocked.get_mut(&stream) else {
                continue;
            };
            while let Some(item) = blocked
                .parked
                .pop_front_if(|item| item.payload.is_abandoned())
            {
                drop(item);
            }
            let Some(item) = blocked.parked.pop_front() else {
                // Everybody who had waited for this stream has gone.
                self.blocked.remove(&stream);
                continue;
            };
            events += item.events;
            bytes += item.bytes;
            let full = events > self.limits.batch_events || bytes > self.limits.batch_bytes;
            if full && !probes.is_empty() {
                blocked.parked.push_front(item);
                self.turns.push_front(stream);
                break;
            }
            blocked.probed = true;
            probes.push(item);
        }
        probes
    }

    /// The batch is back. `busy` are those of its appends that must go again, in their order.
    pub(crate) fn batch_returned(&mut self, busy: Vec<Item<T>>) {
        debug_assert!(self.batch_in_flight, "a batch returns that had not left");
        self.batch_in_flight = false;
        for mut item in busy {
            item.payload.parked();
            let stream = item.stream.clone();
            let blocked = self.blocked.entry(stream.clone()).or_insert_with(|| {
                self.turns.push_back(stream.clone());
                Blocked::default()
            });
            if std::mem::take(&mut blocked.probed) {
                blocked.parked.push_front(item);
                self.turns.push_back(stream);
            } else {
                blocked.parked.push_back(item);
            }
        }
        let through: Vec<Arc<str>> = self
            .blocked
            .iter()
            .filter(|(_, blocked)| blocked.probed)
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in through {
            self.unblock(&stream);
        }
    }

    /// A stream's others are ready again, before what came later.
    fn unblock(&mut self, stream: &Arc<str>) {
        if let Some(blocked) = self.blocked.remove(stream) {
            for item in blocked.parked.into_iter().rev() {
                self.ready.push_front(item);
            }
        }
    }

    /// What goes next alone.
    pub(crate) fn next_alone(&mut self) -> Option<Item<T>> {
        while self.alone_in_flight < self.limits.alone {
            let stream = self.turns.pop_front()?;
            let Some(blocked) = self.blocked.get_mut(&stream) else {
                continue;
            };
            while let Some(item) = blocked.parked.pop_front() {
                if !item.payload.is_abandoned() {
                    self.alone_in_flight += 1;
                    return Some(item);
                }
            }
            // Everybody who had waited for this stream has gone.
            self.blocked.remove(&stream);
        }
        None
    }

    /// The append that went alone is through, well or not.
    pub(crate) fn alone_done(&mut self, stream: &Arc<str>) {
        self.alone_in_flight -= 1;
        self.unblock(stream);
    }

    /// The append that went alone is still busy: it waits for its stream's next turn.
    pub(crate) fn alone_busy(&mut self, item: Item<T>) {
        self.alone_in_flight -= 1;
        let stream = item.stream.clone();
        self.blocked
            .entry(stream.clone())
            .or_default()
            .parked
            .push_front(item);
        self.turns.push_back(stream);
    }

    /// Takes out the parked appends whose time is up.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Item<T>> {
        let mut expired = Vec::new();
        for blocked in self.blocked.values_mut() {
            // A stream's deadlines are in order, as its appends are.
            while blocked
                .parked
                .front()
                .is_some_and(|item| item.deadline <= now)
            {
                expired.extend(blocked.parked.pop_front());
            }
        }
        expired
    }

    /// When the next parked append's time is up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.blocked
            .values()
            .filter_map(|blocked| blocked.parked.front())
            .map(|item| item.deadline)
            .min()
    }

    /// Nothing waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty()
            && self.blocked.is_empty()
            && !self.batch_in_flight
            && self.alone_in_flight == 0
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
