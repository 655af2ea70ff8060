//! What is wrong with an item of a call about sagas: a JSON object that some client has made. It runs once an item, and
//! reads no more than it has to: what is only kept is neither looked at nor bounded here.

use std::collections::BTreeMap;

use pgrx::prelude::*;
use serde_json::value::RawValue;

use crate::append::name_fault;
use crate::settings;

type Object<'a> = BTreeMap<String, &'a RawValue>;
type Check = Result<(), String>;

/// What the value of a field may be, if it is there. A JSON null is as good as no field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    /// A whole number of so many digits.
    Number(usize),
    List,
    Any,
}

/// A field, and whether it must be there.
type Field = (&'static str, Kind, bool);

const SMALL: Kind = Kind::Number(9);
const BIG: Kind = Kind::Number(18);
/// The year 9999, in microseconds since 1970.
const LATEST: u64 = 253_402_300_799_000_000;
/// A hundred years.
const LONGEST_MS: u64 = 3_155_760_000_000;
const MOST_STRINGS: usize = 10_000;

/// What items of saga_start and saga_commit share.
const CHANGE: [Field; 10] = [
    ("saga", Kind::Text, true),
    ("instance", Kind::Text, true),
    ("id", Kind::Text, false),
    ("error", Kind::Text, false),
    ("keep", Kind::Flag, false),
    ("due_at", BIG, false),
    ("due_in_ms", BIG, false),
    ("facts", Kind::List, true),
    ("steps", Kind::List, false),
    ("outbox", Kind::List, false),
];
const START: [Field; 2] = [
    ("topology_version", SMALL, true),
    ("status", Kind::Text, false),
];
const COMMIT: [Field; 6] = [
    ("version", BIG, true),
    ("status", Kind::Text, true),
    ("failed", Kind::Flag, false),
    ("fence", BIG, false),
    ("withdraw", Kind::List, false),
    ("settled", Kind::List, false),
];
const MESSAGE: [Field; 7] = [
    ("key", Kind::Text, true),
    ("step", Kind::Text, true),
    ("kind", Kind::Text, true),
    ("undo", Kind::Flag, false),
    ("activation", SMALL, true),
    ("request", SMALL, false),
    ("data", Kind::Any, false),
];
const DELIVER: [Field; 10] = [
    ("saga", Kind::Text, true),
    ("instance", Kind::Text, true),
    ("step", Kind::Text, true),
    ("type", Kind::Text, false),
    ("error", Kind::Text, false),
    ("id", Kind::Text, false),
    ("undo", Kind::Flag, false),
    ("ok", Kind::Flag, false),
    ("activation", SMALL, false),
    ("request", SMALL, false),
];
const DATA: Field = ("data", Kind::Any, false);
const SIGNAL: [Field; 4] = [
    ("saga", Kind::Text, true),
    ("instance", Kind::Text, true),
    ("signal", Kind::Text, true),
    ("id", Kind::Text, false),
];
const ACK: [Field; 6] = [
    ("message_no", BIG, true),
    ("fence", BIG, true),
    ("outcome", Kind::Text, true),
    ("error", Kind::Text, false),
    ("delay_ms", BIG, false),
    ("response", Kind::Any, false),
];
const RESPONSE: [Field; 4] = [
    ("type", Kind::Text, false),
    ("error", Kind::Text, false),
    ("id", Kind::Text, false),
    ("ok", Kind::Flag, false),
];
const STATUSES: [&str; 8] = [
    "running",
    "compensating",
    "parked",
    "intervention",
    "completed",
    "compensated",
    "failed",
    "cancelled",
];

/// Calls whose items are written natively as well: they ask [`fault_of`], the others `mire_internal.item_fault`.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Start,
    Commit,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Commit => "commit",
        }
    }
}

/// What is wrong with an item, the text of a jsonb.
pub(crate) fn fault_of(item: &str, call: Call) -> Option<String> {
    match call {
        Call::Start => start(item),
        Call::Commit => commit(item),
    }
    .err()
}

/// What is wrong with `item`, the text of a jsonb, as an item of `call`; NULL when nothing is.
#[pg_extern(sql = false)]
fn item_fault(item: Option<&str>, call: &str) -> Option<String> {
    let Some(item) = item else {
        return Some("item is null".into());
    };
    match call {
        "deliver" => deliver(item),
        "signal" => signal(item),
        "ack" => acknowledgement(item),
        _ => error!("no items go to {call}"),
    }
    .err()
}

fn start(item: &str) -> Check {
    let item = object(item, &[&CHANGE, &START])?;
    change(&item)?;
    let first = list(&item, "facts").first().map(|fact| entries(fact));
    let begins = first.is_some_and(|fact| text(&fact, "fact").as_deref() == Some("started"));
    when(!begins, || "facts does not begin with \"started\"".into())
}

fn commit(item: &str) -> Check {
    let item = object(item, &[&CHANGE, &COMMIT])?;
    change(&item)?;
    strings(&item, "withdraw")?;
    strings(&item, "settled").map(drop)
}

fn deliver(item: &str) -> Check {
    let item = object(item, &[&DELIVER, &[DATA]])?;
    names(&item)?;
    label(&item, "step")
}

fn signal(item: &str) -> Check {
    let item = object(item, &[&SIGNAL, &[DATA]])?;
    names(&item)?;
    label(&item, "signal")
}

fn acknowledgement(item: &str) -> Check {
    let item = object(item, &[&ACK])?;
    let outcome = text(&item, "outcome").unwrap_or_default();
    when(
        !["sent", "retry", "dead"].contains(&outcome.as_str()),
        || {
            let outcome = first_characters(&outcome);
            format!("outcome is \"{outcome}\" instead of sent, retry or dead")
        },
    )?;
    when(number(&item, "delay_ms") > Some(LONGEST_MS), || {
        "delay_ms is more than a hundred years".into()
    })?;
    let error = text(&item, "error").unwrap_or_default();
    when(error.len() > settings::max_event_bytes() / 2, || {
        "error is longer than half of mire.max_event_bytes".into()
    })?;
    let Some(response) = value(&item, "response") else {
        return Ok(());
    };
    when(outcome != "sent", || {
        "response comes with an outcome that is not sent".into()
    })?;
    let response = object(response.get(), &[&RESPONSE, &[DATA]]);
    response
        .map(drop)
        .map_err(|fault| format!("response: {fault}"))
}

/// What items of saga_start and saga_commit share.
fn change(item: &Object<'_>) -> Check {
    names(item)?;
    let steps = strings(item, "steps")?;
    when(steps > MOST_STRINGS, || {
        format!("steps holds {steps} strings, and {MOST_STRINGS} are the most")
    })?;
    outbox(item).map_err(|fault| format!("outbox: {fault}"))?;
    let is_fact =
        |fact: &&RawValue| type_of(fact) == "object" && text(&entries(fact), "fact").is_some();
    when(!list(item, "facts").iter().all(is_fact), || {
        "facts holds something that is no object with a string \"fact\"".into()
    })?;
    if let Some(status) = text(item, "status") {
        when(!STATUSES.contains(&status.as_str()), || {
            format!("status is \"{}\", which is none", first_characters(&status))
        })?;
    }
    when(number(item, "due_at") > Some(LATEST), || {
        "due_at is after the year 9999".into()
    })?;
    when(number(item, "due_in_ms") > Some(LONGEST_MS), || {
        "due_in_ms is more than a hundred years".into()
    })?;
    let error = text(item, "error").unwrap_or_default();
    when(error.len() > settings::max_event_bytes(), || {
        "error is longer than mire.max_event_bytes".into()
    })
}

fn outbox(item: &Object<'_>) -> Check {
    let mut keys = Vec::new();
    for message in list(item, "outbox") {
        let message = object(message.get(), &[&MESSAGE])?;
        label(&message, "step")?;
        label(&message, "kind")?;
        let key = text(&message, "key").unwrap_or_default();
        when(!(1..=2_000).contains(&key.len()), || {
            "key is empty or longer than 2000 bytes".into()
        })?;
        keys.push(key);
    }
    let given = keys.len();
    keys.sort_unstable();
    keys.dedup();
    when(keys.len() < given, || "a key is given twice".into())
}

/// The name of a saga and of its instance, which make a stream's name.
fn names(item: &Object<'_>) -> Check {
    let [saga, instance] = ["saga", "instance"].map(|field| text(item, field).unwrap_or_default());
    name("saga", &saga)?;
    when(saga.contains('-'), || {
        "saga holds a \"-\", and a saga's name may not: there the category ends in the name of its streams".into()
    })?;
    name("instance", &instance)?;
    let (bytes, most) = (
        "$saga:-".len() + saga.len() + instance.len(),
        settings::max_name_bytes(),
    );
    when(bytes > most, || {
        format!(
            "saga and instance make a stream's name of {bytes} bytes, and mire.max_name_bytes is {most}"
        )
    })
}

fn name(field: &str, name: &str) -> Check {
    name_fault(name).map_or(Ok(()), |fault| Err(format!("{field} {fault}")))
}

/// Names inside an instance (steps, signals, kinds): short, visible, and $ is allowed.
fn label(item: &Object<'_>, field: &str) -> Check {
    let label = text(item, field).unwrap_or_default();
    when(label.is_empty(), || format!("{field} is empty"))?;
    name(field, &format!("_{label}"))
}

/// The number of strings in a list, if it holds nothing else.
fn strings(item: &Object<'_>, field: &str) -> Result<usize, String> {
    let list = list(item, field);
    let pure = list.iter().all(|value| type_of(value) == "string");
    when(!pure, || {
        format!("{field} holds something that is no string")
    })?;
    Ok(list.len())
}

/// An object with these fields and no others, of their types, none missing that must be there.
fn object<'a>(json: &'a str, fields: &[&[Field]]) -> Result<Object<'a>, String> {
    let whole: &RawValue = parse(json)?;
    when(type_of(whole) != "object", || {
        format!("item is a JSON {} instead of an object", type_of(whole))
    })?;
    let item: Object<'a> = parse(json)?;
    let fields = || fields.iter().copied().flatten();
    if let Some(unknown) = item
        .keys()
        .find(|key| !fields().any(|(name, ..)| name == key))
    {
        return Err(format!(
            "item has the unknown key \"{}\"",
            first_characters(unknown)
        ));
    }
    for (field, kind, _) in fields() {
        if let Some(value) = value(&item, field) {
            kind.check(field, value)?;
        }
    }
    for (field, _, required) in fields() {
        when(*required && value(&item, field).is_none(), || {
            format!("item has no {field}")
        })?;
    }
    Ok(item)
}

impl Kind {
    fn check(self, field: &str, value: &RawValue) -> Check {
        let is = type_of(value);
        let wanted = match self {
            Self::Text => ("string", "a string"),
            Self::Flag => ("boolean", "a boolean"),
            Self::List => ("array", "an array"),
            Self::Any => return Ok(()),
            Self::Number(digits) => {
                let (is, most) = (
                    value.get(),
                    if digits == 9 {
                        "999999999"
                    } else {
                        "10^18 - 1"
                    },
                );
                let whole = is.len() <= digits && is.bytes().all(|byte| byte.is_ascii_digit());
                return when(!whole, || {
                    format!("{field} is no whole number from 0 to {most}")
                });
            }
        };
        when(is != wanted.0, || {
            format!("{field} is a JSON {is} instead of {}", wanted.1)
        })
    }
}

fn type_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// A field that is there and not null.
fn value<'a>(item: &Object<'a>, field: &str) -> Option<&'a RawValue> {
    item.get(field)
        .copied()
        .filter(|value| type_of(value) != "null")
}

fn text(item: &Object<'_>, field: &str) -> Option<String> {
    serde_json::from_str(value(item, field)?.get()).ok()
}

fn number(item: &Object<'_>, field: &str) -> Option<u64> {
    value(item, field)?.get().parse().ok()
}

fn list<'a>(item: &Object<'a>, field: &str) -> Vec<&'a RawValue> {
    let list = value(item, field).and_then(|value| serde_json::from_str(value.get()).ok());
    list.unwrap_or_default()
}

fn entries<'a>(value: &'a RawValue) -> Object<'a> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| format!("item cannot be read: {error}"))
}

fn first_characters(text: &str) -> String {
    text.chars().take(100).collect()
}

fn when(wrong: bool, fault: impl FnOnce() -> String) -> Check {
    if wrong { Err(fault()) } else { Ok(()) }
}
