//! [`Change`]: an item of saga_start or saga_commit, taken apart.
#![allow(unsafe_code)]

use std::fmt;

use pgrx::pg_sys::{self, Datum};

use super::json::{Json, List, Object, Value, no_texts};
use crate::append::args::Text;
use crate::append::raise;
use crate::item_fault::{self, Call};
use crate::{raw, settings};

/// Between 1970, where JSON counts from, and 2000, where Postgres does, in microseconds.
const EPOCHS: i64 = 946_684_800_000_000;

/// An item that has nothing wrong with it. All of it lies in the call's memory.
#[derive(Clone, Copy)]
pub(super) struct Change {
    pub(super) saga: Datum,
    pub(super) instance: Datum,
    pub(super) stream: Text,
    pub(super) topology_version: i64,
    pub(super) version: i64,
    pub(super) fence: Option<i64>,
    /// The data of its event; None: nothing is appended.
    pub(super) data: Option<Datum>,
    pub(super) facts: usize,
    pub(super) event_id: Option<Datum>,
    pub(super) status: Datum,
    pub(super) ended: bool,
    pub(super) parked: bool,
    pub(super) steps: Datum,
    pub(super) error: Option<Datum>,
    /// By Postgres's clock.
    pub(super) due_at: Option<i64>,
    pub(super) keep: bool,
    pub(super) failed: bool,
    pub(super) outbox: Option<List>,
    pub(super) withdraw: Option<List>,
    pub(super) settled: Option<List>,
}

/// Data that would not fit into an event.
#[derive(Clone, Copy)]
struct TooLarge(&'static str, usize);

impl fmt::Display for TooLarge {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{} has {} bytes, and mire.max_event_bytes is {}",
            self.0,
            self.1,
            settings::max_event_bytes()
        )
    }
}

fn size_fault(field: &'static str, value: Option<Value>) -> Option<TooLarge> {
    // SAFETY: reads the value.
    let size = unsafe { value.map_or(0, |value| value.size()) };
    (size > settings::max_event_bytes()).then_some(TooLarge(field, size))
}

impl Change {
    /// Takes an item apart; or tells, as a text, the first thing that is wrong with it.
    ///
    /// # Safety
    /// A jsonb; nothing to drop (see [`raw`]).
    pub(super) unsafe fn of(item: Option<Datum>, call: Call) -> Result<Self, Datum> {
        // SAFETY: as promised. What is formatted is gone before anything can be raised.
        unsafe {
            let Some(item) = item else {
                return Err(raise::words("item is null"));
            };
            let item = Json::of(item);
            if let Some(fault) = fault(item, call) {
                return Err(fault);
            }
            let item = item.object();
            let facts = item.list("facts");
            let outbox = item.list("outbox");
            let too_large = size_fault("facts", facts.map(List::value))
                .or_else(|| size_fault("steps", item.get("steps")))
                .or_else(|| messages_fault(outbox?));
            if let Some(fault) = too_large {
                return Err(raise::words(fault));
            }
            Ok(Self::of_sound(item, call, facts, outbox))
        }
    }

    unsafe fn of_sound(
        item: Object,
        call: Call,
        facts: Option<List>,
        outbox: Option<List>,
    ) -> Self {
        // SAFETY: as promised; the fields that must be there are.
        unsafe {
            let field = |name: &str| item.text(name).unwrap_or_else(|| raw::text(b""));
            let (saga, instance) = (field("saga"), field("instance"));
            let status = item.get("status");
            let status = status
                .as_ref()
                .and_then(|s| s.bytes())
                .unwrap_or(b"running");
            let ended = matches!(
                status,
                b"completed" | b"compensated" | b"failed" | b"cancelled"
            );
            Self {
                saga,
                instance,
                stream: stream_of(saga, instance),
                topology_version: item.number("topology_version").unwrap_or_default(),
                version: item.number("version").unwrap_or_default(),
                fence: item.number("fence"),
                data: facts.map(|facts| facts.value().within("facts")),
                facts: facts.map_or(0, |facts| facts.len()),
                event_id: event_id(item, call),
                status: raw::text(status),
                ended,
                parked: status == b"parked",
                steps: item
                    .list("steps")
                    .map_or_else(|| no_texts(), |steps| steps.texts()),
                error: item.text("error"),
                due_at: due_at(item),
                keep: item.flag("keep") && !ended,
                failed: item.flag("failed"),
                outbox,
                withdraw: item.list("withdraw"),
                settled: item.list("settled"),
            }
        }
    }
}

/// What is wrong with an item, but for sizes.
unsafe fn fault(item: Json, call: Call) -> Option<Datum> {
    // SAFETY: nothing of Postgres is called while the text is looked at.
    unsafe {
        let fault = match item.text().to_str() {
            Ok(text) => item_fault::fault_of(text, call),
            Err(_) => Some("item is not encoded in UTF-8".into()),
        };
        fault.map(raise::words)
    }
}

unsafe fn messages_fault(messages: List) -> Option<TooLarge> {
    // SAFETY: as promised.
    (0..unsafe { messages.len() })
        .find_map(|n| unsafe { size_fault("outbox: data", messages.object(n)?.get("data")) })
}

/// `$saga:<saga>-<instance>`.
unsafe fn stream_of(saga: Datum, instance: Datum) -> Text {
    // SAFETY: written before it is read; both names are checked for their length.
    unsafe {
        let (saga, instance) = (Text::of(saga), Text::of(instance));
        let parts = [b"$saga:", saga.bytes(), b"-", instance.bytes()];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let room = raw::room::<u8>(length);
        let mut end = 0;
        for part in parts {
            std::ptr::copy_nonoverlapping(part.as_ptr(), room.add(end), part.len());
            end += part.len();
        }
        Text::of(raw::text(std::slice::from_raw_parts(room, length)))
    }
}

/// An event's id, made from the caller's id of what it records, as `saga_event_id` does it.
unsafe fn event_id(item: Object, call: Call) -> Option<Datum> {
    const LONGEST: usize = 256;
    // SAFETY: md5 is 32 hexadecimal digits.
    unsafe {
        let id = item.get("id")?;
        let id = id.bytes()?;
        let what = call.name().as_bytes();
        let length = what.len() + 1 + id.len();
        let mut short = [0_u8; LONGEST];
        let room = if length <= LONGEST {
            short.as_mut_ptr()
        } else {
            raw::room::<u8>(length)
        };
        std::ptr::copy_nonoverlapping(what.as_ptr(), room, what.len());
        room.add(what.len()).write(b':');
        std::ptr::copy_nonoverlapping(id.as_ptr(), room.add(what.len() + 1), id.len());
        let text = raw::text(std::slice::from_raw_parts(room, length));
        let digits = Text::of(raw::DirectFunctionCall1Coll(
            Some(raw::md5_text),
            pg_sys::C_COLLATION_OID,
            text,
        ));
        let uuid = raw::room::<u8>(16);
        for (n, pair) in digits.bytes().chunks_exact(2).take(16).enumerate() {
            uuid.add(n).write(digit(pair[0]) << 4 | digit(pair[1]));
        }
        Some(Datum::from(uuid))
    }
}

fn digit(hexadecimal: u8) -> u8 {
    match hexadecimal {
        b'0'..=b'9' => hexadecimal - b'0',
        _ => hexadecimal - b'a' + 10,
    }
}

/// When an item is due: at due_at or due_in_ms from now, whichever comes first.
unsafe fn due_at(item: Object) -> Option<i64> {
    // SAFETY: as promised.
    unsafe {
        let at = item.number("due_at").map(|at| at - EPOCHS);
        let after = item
            .number("due_in_ms")
            .map(|ms| raw::GetCurrentTimestamp() + ms * 1000);
        [at, after].into_iter().flatten().min()
    }
}
