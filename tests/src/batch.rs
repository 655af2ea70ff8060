//! `mire.append_batch` without its flat arrays.

use postgres::{Error, GenericClient};
use serde_json::{Value, json};
use uuid::Uuid;

/// One item of a batch: events for one stream.
#[derive(Debug, Clone)]
pub struct Item {
    /// The stream's name.
    pub stream: String,
    /// As in append.
    pub expected: Option<i64>,
    /// Type and data of each event.
    pub events: Vec<(String, Option<Value>)>,
    /// The events' ids.
    pub ids: Vec<Option<Uuid>>,
}

impl Item {
    /// So many plain events with ids of their own.
    #[must_use]
    pub fn new(stream: impl Into<String>, expected: Option<i64>, count: usize) -> Self {
        let event = ("happened".to_owned(), Some(json!({})));
        Self {
            stream: stream.into(),
            expected,
            events: vec![event; count],
            ids: (0..count).map(|_| Some(Uuid::now_v7())).collect(),
        }
    }

    /// One event of this type and data.
    #[must_use]
    pub fn event(stream: &str, kind: &str, data: Option<Value>) -> Self {
        Self {
            stream: stream.to_owned(),
            expected: None,
            events: vec![(kind.to_owned(), data)],
            ids: vec![None],
        }
    }
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 1-based.
    pub item: i32,
    /// appended, duplicate, conflict, busy, not_found, deleted or invalid.
    pub outcome: String,
    /// Of the item's last event.
    pub version: Option<i64>,
    /// Of the item's last event.
    pub position: Option<i64>,
    /// The stream's.
    pub actual: Option<i64>,
    /// What to mend.
    pub reason: Option<String>,
}

/// The statement, for those that prepare it.
pub const APPEND_BATCH: &str = "SELECT * FROM mire.append_batch($1, $2, $3, $4, $5, NULL, $6)";

/// Sends the items in one call.
///
/// # Errors
/// What the server says.
///
/// # Panics
/// When an item has more than two billion events.
pub fn append_batch(
    client: &mut impl GenericClient,
    items: &[Item],
) -> Result<Vec<Outcome>, Error> {
    let streams: Vec<&str> = items.iter().map(|item| item.stream.as_str()).collect();
    let expected: Vec<Option<i64>> = items.iter().map(|item| item.expected).collect();
    let counts: Vec<i32> = items
        .iter()
        .map(|item| i32::try_from(item.events.len()).expect("few events"))
        .collect();
    let events = || items.iter().flat_map(|item| &item.events);
    let types: Vec<&str> = events().map(|(kind, _)| kind.as_str()).collect();
    let data: Vec<Option<&Value>> = events().map(|(_, data)| data.as_ref()).collect();
    let ids: Vec<Option<Uuid>> = items.iter().flat_map(|item| item.ids.clone()).collect();
    let rows = client.query(
        APPEND_BATCH,
        &[&streams, &expected, &counts, &types, &data, &ids],
    )?;
    Ok(rows
        .iter()
        .map(|row| Outcome {
            item: row.get("item"),
            outcome: row.get("outcome"),
            version: row.get("version"),
            position: row.get("position"),
            actual: row.get("actual_version"),
            reason: row.get("reason"),
        })
        .collect())
}

/// The outcomes' names, in the items' order.
#[must_use]
pub fn names(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes
        .iter()
        .map(|outcome| outcome.outcome.as_str())
        .collect()
}
