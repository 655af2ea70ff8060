//! What is wrong with an append's arguments: decided here, worded here, raised by `sql/errors`.
#![allow(unsafe_code)]

use std::fmt;

use pgrx::pg_sys::{self, Datum};
use pgrx::varlena::vardata_any;

use super::args::{Array, Events, Shape, Text, element, uuid};
use crate::{raw, settings};

/// What is wrong with the name of a stream, an event type or a resource.
#[derive(Clone, Copy)]
pub(super) enum NameFault {
    Null,
    Empty,
    TooLong(usize),
    ControlCharacter,
    Reserved,
}

pub(super) fn name_fault(name: Option<&[u8]>) -> Option<NameFault> {
    let Some(name) = name else {
        return Some(NameFault::Null);
    };
    if name.is_empty() {
        Some(NameFault::Empty)
    } else if name.len() > settings::max_name_bytes() {
        Some(NameFault::TooLong(name.len()))
    } else if holds_control_character(name) {
        Some(NameFault::ControlCharacter)
    } else if name.first() == Some(&b'$') {
        Some(NameFault::Reserved)
    } else {
        None
    }
}

/// U+0001 to U+001F and U+007F to U+009F; the latter but one are two bytes of UTF-8, of which the first is 0xC2.
fn holds_control_character(name: &[u8]) -> bool {
    let mut before = 0;
    name.iter().any(|&byte| {
        let control =
            byte < 0x20 || byte == 0x7F || (before == 0xC2 && (0x80..=0x9F).contains(&byte));
        before = byte;
        control
    })
}

impl fmt::Display for NameFault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => to.write_str("is null"),
            Self::Empty => to.write_str("is empty"),
            Self::TooLong(bytes) => write!(
                to,
                "has {bytes} bytes, and mire.max_name_bytes is {}",
                settings::max_name_bytes()
            ),
            Self::ControlCharacter => to.write_str("holds a control character"),
            Self::Reserved => to.write_str("begins with $, which is reserved for the store itself"),
        }
    }
}

/// What is wrong with an array's shape: they are one-dimensional and start at 1, so that item i is element i everywhere.
#[derive(Clone, Copy)]
pub(super) enum ArrayFault {
    Dimensions(i32),
    LowerBound(i32),
    Length { is: usize, should: usize },
}

/// `length`: None when any will do.
pub(super) fn array_fault(shape: &Shape, length: Option<usize>) -> Option<ArrayFault> {
    if shape.dimensions > 1 {
        return Some(ArrayFault::Dimensions(shape.dimensions));
    } else if shape.lower_bound != 1 {
        return Some(ArrayFault::LowerBound(shape.lower_bound));
    }
    let should = length.filter(|length| *length != shape.length)?;
    Some(ArrayFault::Length {
        is: shape.length,
        should,
    })
}

/// A NULL has no shape to be wrong.
pub(super) fn maybe_array_fault(
    array: &Option<Array>,
    length: Option<usize>,
) -> Option<ArrayFault> {
    array_fault(&array.as_ref()?.shape, length)
}

impl fmt::Display for ArrayFault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimensions(dimensions) => {
                write!(to, "has {dimensions} dimensions instead of one")
            }
            Self::LowerBound(bound) => write!(to, "starts at index {bound} instead of 1"),
            Self::Length { is, should } => write!(to, "has {is} elements instead of {should}"),
        }
    }
}

/// What is wrong with one event of several.
#[derive(Clone, Copy)]
pub(super) struct EventFault {
    /// 1-based.
    pub(super) item: usize,
    pub(super) reason: Reason,
}

#[derive(Clone, Copy)]
pub(super) enum Reason {
    Type(NameFault),
    NoData,
    Metadata(&'static str),
    TooLarge(usize),
    RepeatedId([u8; 16]),
}

impl fmt::Display for Reason {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(fault) => write!(to, "type {fault}"),
            Self::NoData => to.write_str("data is null (JSON null is allowed, SQL NULL is not)"),
            Self::Metadata(kind) => {
                write!(to, "metadata is a JSON {kind} instead of an object")
            }
            Self::TooLarge(bytes) => write!(
                to,
                "data and metadata have {bytes} bytes, and mire.max_event_bytes is {}",
                settings::max_event_bytes()
            ),
            Self::RepeatedId(id) => {
                write!(
                    to,
                    "event id {} is given twice",
                    uuid::Uuid::from_bytes(*id)
                )
            }
        }
    }
}

/// The first thing wrong among `total` events from `first` on.
///
/// # Safety
/// Nothing to drop (see [`raw`]).
pub(super) unsafe fn events_fault(
    events: &Events,
    first: usize,
    total: usize,
) -> Option<EventFault> {
    // SAFETY: the arrays hold what their names say.
    unsafe {
        for i in 0..total {
            if let Some(reason) = event_fault(events, first + i) {
                return Some(EventFault {
                    item: i + 1,
                    reason,
                });
            }
        }
        repeated_id(events.ids.as_ref()?, first, total)
    }
}

/// # Safety
/// As [`events_fault`].
unsafe fn event_fault(events: &Events, i: usize) -> Option<Reason> {
    // SAFETY: types are texts, data and metadata are jsonb.
    unsafe {
        let name = element(&events.types, i).map(|name| Text::of(name));
        if let Some(fault) = name_fault(name.as_ref().map(Text::bytes)) {
            return Some(Reason::Type(fault));
        }
        let Some(data) = element(&events.data, i) else {
            return Some(Reason::NoData);
        };
        let mut size = raw::toast_datum_size(data);
        if let Some(metadata) = element(&events.metadata, i) {
            if !is_object(metadata) {
                return Some(Reason::Metadata(json_kind(metadata)));
            }
            size += raw::toast_datum_size(metadata);
        }
        (size > settings::max_event_bytes()).then_some(Reason::TooLarge(size))
    }
}

/// # Safety
/// The value is a jsonb; nothing to drop.
unsafe fn is_object(json: Datum) -> bool {
    // SAFETY: detoasted, a jsonb begins with a header of four bytes that says what it is.
    unsafe {
        let json = raw::pg_detoast_datum(json.cast_mut_ptr());
        vardata_any(json).cast::<u32>().read_unaligned() & pg_sys::JB_FOBJECT != 0
    }
}

/// What jsonb_typeof calls it.
///
/// # Safety
/// As [`is_object`].
unsafe fn json_kind(json: Datum) -> &'static str {
    // SAFETY: jsonb_typeof takes one jsonb and gives a text.
    let kind = unsafe {
        Text::of(raw::DirectFunctionCall1Coll(
            Some(raw::jsonb_typeof),
            pg_sys::InvalidOid,
            json,
        ))
    };
    ["object", "array", "string", "number", "boolean", "null"]
        .into_iter()
        .find(|name| name.as_bytes() == kind.bytes())
        .unwrap_or("value")
}

/// An id that comes twice. Ids made one after the other grow, and then one look at each is enough.
///
/// # Safety
/// As [`events_fault`].
unsafe fn repeated_id(ids: &Array, first: usize, total: usize) -> Option<EventFault> {
    if total < 2 {
        return None;
    }
    // SAFETY: ids are uuids; `given` has room for all of them, and only those written are read.
    unsafe {
        let given = raw::room::<([u8; 16], usize)>(total);
        let mut count = 0;
        let mut growing = true;
        for i in 0..total {
            if let Some(id) = ids.get(first + i) {
                let id = uuid(id);
                growing &= count == 0 || (*given.add(count - 1)).0 < id;
                given.add(count).write((id, i + 1));
                count += 1;
            }
        }
        if growing {
            return None;
        }
        let given = std::slice::from_raw_parts_mut(given, count);
        given.sort_unstable();
        let twice = given.windows(2).find(|pair| pair[0].0 == pair[1].0)?[0].0;
        let item = given.iter().rev().find(|(id, _)| *id == twice)?.1;
        Some(EventFault {
            item,
            reason: Reason::RepeatedId(twice),
        })
    }
}
