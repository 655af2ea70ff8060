//! The outbox's side of the database.

use std::time::Duration;

use mire_client::Json;
use mire_client::saga_support::{Effect, Row, ToSql, column, json_column};
use serde_json::Value;

use super::{ItemResult, Storage, renewed};
use crate::calls;
use crate::error::Result;

/// A message that this process is to publish.
#[derive(Clone, Debug)]
pub(crate) struct ClaimedMessage {
    pub(crate) message_no: i64,
    pub(crate) fence: i64,
    pub(crate) saga: String,
    pub(crate) instance: String,
    pub(crate) step: String,
    pub(crate) undo: bool,
    pub(crate) activation: u32,
    pub(crate) request: u32,
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
    /// Those before this one.
    pub(crate) attempts: u32,
}

/// The answer to a claim.
#[derive(Debug, Default)]
pub(crate) struct ClaimedMessages {
    /// In the order in which they were written.
    pub(crate) messages: Vec<ClaimedMessage>,
    /// From now until the next one is due.
    pub(crate) next_due: Option<Duration>,
}

impl Storage {
    /// Kinds None: all but the internal ones.
    pub(crate) async fn outbox_claim(
        &self,
        holder: &str,
        kinds: Option<&[&str]>,
        max: usize,
        ttl: Duration,
    ) -> Result<ClaimedMessages> {
        let max = i32::try_from(max).unwrap_or(i32::MAX);
        let ttl = ttl.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 4] = [&holder, &kinds, &max, &ttl];
        let rows = self
            .calls
            .rows(&calls::OUTBOX_CLAIM, &params, Effect::Reads, "outbox_claim")
            .await?;
        let mut claimed = ClaimedMessages::default();
        for row in &rows {
            match column::<Option<i64>>(row, 0)? {
                Some(message_no) => claimed.messages.push(message(row, message_no)?),
                None => {
                    let seconds: Option<f64> = column(row, 12)?;
                    claimed.next_due = seconds.map(|s| Duration::from_secs_f64(s.clamp(0.0, 1e9)));
                }
            }
        }
        Ok(claimed)
    }

    pub(crate) async fn outbox_ack(&self, items: &[Json]) -> Result<Vec<ItemResult>> {
        let rows = self
            .write(&calls::OUTBOX_ACK, &[&items], "outbox_ack")
            .await?;
        ItemResult::of_rows(&rows, items.len())
    }

    pub(crate) async fn outbox_renew(
        &self,
        messages: &[i64],
        fences: &[i64],
        ttl: Duration,
    ) -> Result<Vec<Option<bool>>> {
        let ttl = ttl.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 3] = [&messages, &fences, &ttl];
        let rows = self
            .calls
            .rows(&calls::OUTBOX_RENEW, &params, Effect::Reads, "outbox_renew")
            .await?;
        renewed(&rows, fences.len())
    }
}

fn message(row: &Row, message_no: i64) -> Result<ClaimedMessage> {
    let number = |index: usize| -> Result<u32> {
        let number: Option<i32> = column(row, index)?;
        Ok(number
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or_default())
    };
    let data = json_column::<Value>(row, 9)?.and_then(Result::ok);
    Ok(ClaimedMessage {
        message_no,
        saga: column(row, 1)?,
        instance: column(row, 2)?,
        step: column(row, 3)?,
        undo: column(row, 4)?,
        activation: number(5)?,
        request: number(6)?,
        key: column(row, 7)?,
        kind: column(row, 8)?,
        data: data.unwrap_or_default(),
        attempts: number(10)?,
        fence: column(row, 11)?,
    })
}
