//! Starts: first the streams are made, in sorted order, which may wait for whoever is just starting the same instance; then
//! all is written in the order of the items.
#![allow(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use super::change::Change;
use super::commit::{Desk, Outcome};
use crate::append::args::{Array, Element};
use crate::append::raise;
use crate::append::target::next_value;
use crate::{catalog, raw};

/// An item, and the stream that was made for it.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) change: Result<Change, Datum>,
    pub(super) stream_no: Option<i64>,
}

impl Start {
    fn name(&self) -> &[u8] {
        self.change
            .as_ref()
            .map_or(&[], |change| change.stream.bytes())
    }
}

impl Desk {
    /// Makes the streams that are not there yet, each for the first item that names it.
    ///
    /// # Safety
    /// Nothing to drop (see [`raw`]), of this and all other functions here.
    pub(super) unsafe fn make_streams(&mut self, starts: &mut [Start]) {
        // SAFETY: `order` has room for all; only what was written is read.
        unsafe {
            let order = raw::room::<usize>(starts.len());
            for n in 0..starts.len() {
                order.add(n).write(n);
            }
            let order = std::slice::from_raw_parts_mut(order, starts.len());
            order.sort_unstable_by(|a, b| starts[*a].name().cmp(starts[*b].name()).then(a.cmp(b)));
            let mut last: Option<usize> = None;
            for n in order.iter().copied() {
                let Ok(change) = starts[n].change else {
                    continue;
                };
                let again = last.is_some_and(|last| starts[last].name() == starts[n].name());
                if !again {
                    starts[n].stream_no = self.heads.begin(&change.stream, 1);
                }
                last = Some(n);
            }
        }
    }

    /// Starts an instance whose stream has just been made. `now`: a little later for each item, so that lists have them in
    /// this order.
    pub(super) unsafe fn start(&mut self, change: &Change, stream_no: i64, now: i64) -> Outcome {
        // SAFETY: as promised.
        unsafe {
            self.record(change, stream_no, 1, c"$saga_started");
            let (fence, due_at) = if change.keep {
                let fence = next_value(catalog::relation(c"fences"));
                (Some(fence), Some(now + self.ttl))
            } else if change.ended || change.parked {
                (None, None)
            } else if change.due_at.is_none() && change.facts == 1 {
                // Nothing has been decided yet.
                (None, Some(now))
            } else {
                (None, change.due_at)
            };
            let lease = self.lease(change, now);
            self.instances
                .insert(change, stream_no, lease, fence, due_at, now);
            // Nobody else knows the stream: nothing is in the way of them.
            if change.outbox.is_some() {
                self.messages().send(change, stream_no);
            }
            Outcome {
                version: Some(1),
                fence,
                ..Outcome::of(c"started")
            }
        }
    }

    /// What to say of an instance that is or was there, also when this very call has started it.
    pub(super) unsafe fn started_before(&self, change: &Change) -> Outcome {
        // SAFETY: started_before(stream text, saga text, instance text, event_id uuid, holder text).
        let record = unsafe {
            raise::call(
                c"started_before",
                &[
                    (pg_sys::TEXTOID, Some(change.stream.datum)),
                    (pg_sys::TEXTOID, Some(change.saga)),
                    (pg_sys::TEXTOID, Some(change.instance)),
                    (pg_sys::UUIDOID, change.event_id),
                    (pg_sys::TEXTOID, self.holder),
                ],
            )
        };
        let Some(record) = record else {
            return Outcome::of(c"exists");
        };
        // SAFETY: a bigint[] of three: whether it is the same start again, the version, the fence.
        let [same, version, fence] = unsafe {
            let answer = Array::of(record, Element::Bigint);
            [0, 1, 2].map(|n| answer.get(n).map(|value| value.value() as i64))
        };
        Outcome {
            version,
            fence,
            ..Outcome::of(if same == Some(1) {
                c"duplicate"
            } else {
                c"exists"
            })
        }
    }
}
