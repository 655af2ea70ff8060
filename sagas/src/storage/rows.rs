//! What comes back from the database.

use mire_client::saga_support::{Row, column, json_column};
use serde::Deserialize;
use serde_json::Value;

use crate::engine::Micros;
use crate::error::{Error, Result};
use crate::history::Fact;

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ItemResult {
    pub(crate) outcome: String,
    pub(crate) version: Option<i64>,
    pub(crate) fence: Option<i64>,
    pub(crate) reason: Option<String>,
}

impl ItemResult {
    /// In the order of the items.
    pub(super) fn of_rows(rows: &[Row], asked: usize) -> Result<Vec<Self>> {
        let mut results: Vec<Option<Self>> = vec![None; asked];
        for row in rows {
            let item: i32 = column(row, 0)?;
            let place = usize::try_from(item).ok().and_then(|n| n.checked_sub(1));
            if let Some(result) = place.and_then(|place| results.get_mut(place)) {
                *result = Some(Self {
                    outcome: column(row, 1)?,
                    version: column(row, 2)?,
                    fence: column(row, 3)?,
                    reason: column(row, 4)?,
                });
            }
        }
        let all: Option<Vec<Self>> = results.into_iter().collect();
        all.ok_or_else(|| Error::Invalid {
            reason: "the answer lacks the row of an item".into(),
        })
    }

    /// For outcomes that nobody expects here.
    pub(crate) fn refused(self, saga: &str, instance: &str) -> Error {
        let (saga, instance) = (saga.to_owned(), instance.to_owned());
        match self.outcome.as_str() {
            "not_found" => Error::NotFound { saga, instance },
            "pruned" => Error::Pruned { saga, instance },
            "busy" => Error::Busy { saga, instance },
            other => Error::Invalid {
                reason: self.reason.unwrap_or_else(|| other.to_owned()),
            },
        }
    }
}

/// One event of an instance's stream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct StoredEvent {
    pub(crate) version: i64,
    /// Microseconds since 1970, by the database's clock.
    pub(crate) at: Micros,
    pub(crate) facts: Vec<Fact>,
}

/// An instance with its history, claimed or just looked at.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) saga: String,
    pub(crate) instance: String,
    pub(crate) topology_version: i32,
    pub(crate) status: String,
    pub(crate) fence: Option<i64>,
    pub(crate) version: i64,
    /// Drives in a row that ended without a commit.
    pub(crate) attempts: i32,
    /// The database's clock.
    pub(crate) now: Micros,
    /// The inner error: the facts are none that this program knows.
    pub(crate) events: Result<Vec<StoredEvent>, String>,
    /// Its history has been erased.
    pub(crate) pruned: bool,
}

impl Claimed {
    pub(super) fn of_row(row: &Row) -> Result<Self> {
        let events = json_column::<Vec<StoredEvent>>(row, 8)?;
        let pruned = events.is_none();
        let events = match events {
            None => Ok(Vec::new()),
            Some(Ok(events)) => Ok(events),
            Some(Err(error)) => Err(error.to_string()),
        };
        Ok(Self {
            saga: column(row, 0)?,
            instance: column(row, 1)?,
            topology_version: column(row, 2)?,
            status: column(row, 3)?,
            fence: column(row, 4)?,
            version: column::<Option<i64>>(row, 5)?.unwrap_or_default(),
            attempts: column::<Option<i32>>(row, 6)?.unwrap_or_default(),
            now: column(row, 7)?,
            events,
            pruned,
        })
    }
}

/// The answer to a claim.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) instances: Vec<Claimed>,
    /// From now until the next one is due.
    pub(crate) next_due: Option<std::time::Duration>,
}

impl Claims {
    pub(super) fn of_rows(rows: &[Row]) -> Result<Self> {
        let mut claims = Self::default();
        for row in rows {
            if column::<Option<String>>(row, 0)?.is_some() {
                claims.instances.push(Claimed::of_row(row)?);
            } else if let Some(at) = column::<Option<Micros>>(row, 9)? {
                let now: Option<Micros> = column(row, 7)?;
                let wait = at.saturating_sub(now.unwrap_or(at));
                claims.next_due = Some(std::time::Duration::from_micros(
                    u64::try_from(wait).unwrap_or_default(),
                ));
            }
        }
        Ok(claims)
    }
}

/// A row of `saga_history`'s fact column.
pub(super) fn fact_column(row: &Row, index: usize) -> Result<Value> {
    match json_column::<Value>(row, index)? {
        None => Ok(Value::Null),
        Some(value) => value.map_err(|error| Error::Invalid {
            reason: error.to_string(),
        }),
    }
}
