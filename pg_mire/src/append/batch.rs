//! Many appends, one call, one commit. Every one lands whole or not at all and has an outcome of its own; none stops
//! another, and none waits for another transaction.
#![allow(unsafe_code)]

use std::fmt;

use pgrx::pg_sys::Datum;

use super::args::{Arguments, Array, Element, Events, Text, element};
use super::checks::{self, EventFault, NameFault, array_fault, maybe_array_fault};
use super::decide::{Append, Outcome};
use super::heads::{Claim, Head, Heads};
use super::raise;
use crate::{raw, settings};

/// An item is the append that it asks for, or what is wrong with it.
#[derive(Clone, Copy)]
struct Item {
    ask: Result<Append, Datum>,
    /// Which of the claimed streams it goes to.
    stream: usize,
}

#[derive(Clone, Copy)]
enum ItemFault {
    Stream(NameFault),
    Expected(i64),
    Event(EventFault),
}

impl fmt::Display for ItemFault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(fault) => write!(to, "stream {fault}"),
            Self::Expected(version) => write!(to, "expected version {version} is below -1"),
            Self::Event(fault) => write!(to, "event {}: {}", fault.item, fault.reason),
        }
    }
}

/// The arrays of a call that fit together.
struct Batch {
    streams: Array,
    expected: Option<Array>,
    counts: Array,
    events: Events,
}

/// What is wrong with a batch as a whole.
#[derive(Clone, Copy)]
struct TooLarge(usize, i64);

impl fmt::Display for TooLarge {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "has {} items and {} events, and mire.max_events_per_call is {}",
            self.0,
            self.1,
            settings::max_events_per_call()
        )
    }
}

impl Batch {
    /// Raises MI004 unless the arrays fit together.
    ///
    /// # Safety
    /// The arguments are those of append_batch; nothing to drop (see [`raw`]).
    unsafe fn of(arguments: Arguments) -> Self {
        // SAFETY: as promised; counts are integers.
        unsafe {
            let events = Events::of(arguments, 3);
            let (Some(streams), Some(counts), Some(_), Some(_)) = (
                arguments.array(0, Element::Text),
                arguments.array(2, Element::Integer),
                &events.types,
                &events.data,
            ) else {
                raise::invalid(None, c"batch", "lacks streams, counts, types or data");
            };
            let expected = arguments.array(1, Element::Bigint);
            let items = streams.len();
            if let Some(fault) = array_fault(&streams.shape, None) {
                raise::invalid(None, c"streams", fault);
            }
            if let Some(fault) = maybe_array_fault(&expected, Some(items)) {
                raise::invalid(None, c"expected", fault);
            }
            if let Some(fault) = array_fault(&counts.shape, Some(items)) {
                raise::invalid(None, c"counts", fault);
            }
            let mut total = 0;
            for i in 0..items {
                let count = counts.get(i).map_or(-1, |count| count.value() as i32);
                if count < 0 {
                    raise::invalid(None, c"counts", "holds a NULL or a negative number");
                }
                total += i64::from(count);
            }
            let most = settings::max_events_per_call();
            if total > most as i64 || items > most {
                raise::invalid(None, c"batch", TooLarge(items, total));
            }
            for (name, array) in [
                (c"types", &events.types),
                (c"data", &events.data),
                (c"metadata", &events.metadata),
                (c"ids", &events.ids),
            ] {
                if let Some(fault) = maybe_array_fault(array, Some(total as usize)) {
                    raise::invalid(None, name, fault);
                }
            }
            Self {
                streams,
                expected,
                counts,
                events,
            }
        }
    }

    /// Item `i`, whose events begin at `first`.
    unsafe fn item(&self, i: usize, first: usize) -> (usize, Result<Append, ItemFault>) {
        // SAFETY: the arrays hold what their names say.
        unsafe {
            let total = self.counts.get(i).map_or(0, |count| count.value());
            let stream = self.streams.get(i).map(|stream| Text::of(stream));
            let expected = element(&self.expected, i).map(|version| version.value() as i64);
            let fault = if let Some(fault) = checks::name_fault(stream.as_ref().map(Text::bytes)) {
                Some(ItemFault::Stream(fault))
            } else if let Some(version) = expected.filter(|version| *version < -1) {
                Some(ItemFault::Expected(version))
            } else {
                checks::events_fault(&self.events, first, total).map(ItemFault::Event)
            };
            let ask = match (fault, stream) {
                (None, Some(stream)) => Ok(Append {
                    stream,
                    expected,
                    first,
                    total,
                }),
                (Some(fault), _) => Err(fault),
                (None, None) => Err(ItemFault::Stream(NameFault::Null)),
            };
            (first + total, ask)
        }
    }
}

/// Does all of it; `tell` gets each item's outcome, in their order.
///
/// # Safety
/// The arguments are those of append_batch; nothing to drop (see [`raw`]).
pub(super) unsafe fn append_batch(arguments: Arguments, mut tell: impl FnMut(usize, &Outcome)) {
    // SAFETY: the rooms are written before they are read.
    unsafe {
        let batch = Batch::of(arguments);
        let count = batch.streams.len();
        let items = raw::room::<Item>(count);
        let mut first = 0;
        for i in 0..count {
            let (next, ask) = batch.item(i, first);
            let ask = ask.map_err(raise::words);
            items.add(i).write(Item { ask, stream: 0 });
            first = next;
        }
        let items = std::slice::from_raw_parts_mut(items, count);

        let mut heads = None;
        let claims = claim_all(items, &mut heads);
        let mut log = None;
        for (i, item) in items.iter().enumerate() {
            let outcome = match item.ask {
                Err(reason) => Outcome {
                    reason: Some(reason),
                    ..Outcome::of(c"invalid")
                },
                Ok(append) => match &mut claims[item.stream] {
                    Claim::Busy => Outcome::of(c"busy"),
                    Claim::Unborn if append.creates() => Outcome::of(c"busy"),
                    Claim::Ours(head) => append.perform(head, &batch.events, &mut log),
                    Claim::Absent | Claim::Unborn => {
                        append.perform(&mut Head::default(), &batch.events, &mut log)
                    }
                },
            };
            tell(i + 1, &outcome);
        }
        if let Some(log) = &mut log {
            log.close();
        }
        if let Some(heads) = &mut heads {
            heads.close();
            raw::CommandCounterIncrement();
        }
    }
}

/// Claims the streams of all sound items, in sorted order, and brings each to the version that it will have after all of its
/// items: what becomes of an item follows from the stream's version before, so it is known by then.
unsafe fn claim_all(items: &mut [Item], heads: &mut Option<Heads>) -> &'static mut [Claim] {
    // SAFETY: `order` has room for all items and `claims` for as many streams; only what was written is read.
    unsafe {
        let order = raw::room::<usize>(items.len());
        let mut sound = 0;
        for (i, item) in items.iter().enumerate() {
            if item.ask.is_ok() {
                order.add(sound).write(i);
                sound += 1;
            }
        }
        let order = std::slice::from_raw_parts_mut(order, sound);
        let name = |i: &usize| {
            items[*i]
                .ask
                .as_ref()
                .map_or(&[][..], |append| append.stream.bytes())
        };
        order.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));

        let claims = raw::room::<Claim>(sound);
        let mut streams = 0;
        let mut rest = &*order;
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|i| {
                    items[**i].ask.as_ref().is_ok_and(|append| {
                        items[*first]
                            .ask
                            .as_ref()
                            .is_ok_and(|first| first.stream.bytes() == append.stream.bytes())
                    })
                })
                .count();
            let (ours, others) = rest.split_at(same);
            let heads = match heads {
                Some(heads) => heads,
                None => heads.insert(Heads::open(false)),
            };
            let appends = || ours.iter().filter_map(|i| items[*i].ask.ok());
            let Some(one) = appends().next() else {
                break;
            };
            let claim = heads.claim(
                &one.stream,
                appends().any(|append| append.creates()),
                |head| {
                    appends()
                        .fold(*head, |head, append| Head {
                            version: append.version_after(&head),
                            ..head
                        })
                        .version
                },
            );
            claims.add(streams).write(claim);
            for i in ours {
                items[*i].stream = streams;
            }
            streams += 1;
            rest = others;
        }
        std::slice::from_raw_parts_mut(claims, streams)
    }
}
