//! The way down: one method a function of the database, on connections of the store.

mod items;
mod operate;
mod outbox;
mod rows;

use std::time::Duration;

use mire_client::saga_support::{self, Calls, Effect, Row, ToSql, column};
use mire_client::{EventStore, Json, Transaction};

use crate::calls;
use crate::error::Result;

pub(crate) use items::{
    AckItem, AnswerItem, CommitItem, DeliverItem, OutboxItem, SignalItem, StartItem, encode,
    fresh_id, millis,
};
pub(crate) use operate::{HistoryRow, ListedRow};
pub(crate) use outbox::ClaimedMessage;
pub(crate) use rows::{Claimed, Claims, ItemResult};

/// The database's side of sagas.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    calls: Calls,
}

impl Storage {
    pub(crate) fn new(store: &EventStore) -> Self {
        Self {
            calls: Calls::of(store),
        }
    }

    pub(crate) async fn start(
        &self,
        items: &[Json],
        holder: &str,
        ttl: Duration,
    ) -> Result<Vec<ItemResult>> {
        let ttl = ttl.as_secs_f64();
        let rows = self
            .write(&calls::START, &[&items, &holder, &ttl], "saga_start")
            .await?;
        ItemResult::of_rows(&rows, items.len())
    }

    /// As part of a transaction; nobody holds the new instance then.
    pub(crate) async fn start_in(
        &self,
        tx: &mut Transaction,
        items: &[Json],
    ) -> Result<Vec<ItemResult>> {
        let nobody: (Option<&str>, Option<f64>) = (None, None);
        let params: [&(dyn ToSql + Sync); 3] = [&items, &nobody.0, &nobody.1];
        let rows = saga_support::rows_in(tx, &calls::START, &params, "saga_start").await?;
        ItemResult::of_rows(&rows, items.len())
    }

    pub(crate) async fn commit(
        &self,
        items: &[Json],
        holder: &str,
        ttl: Duration,
    ) -> Result<Vec<ItemResult>> {
        let ttl = ttl.as_secs_f64();
        let rows = self
            .write(&calls::COMMIT, &[&items, &holder, &ttl], "saga_commit")
            .await?;
        ItemResult::of_rows(&rows, items.len())
    }

    pub(crate) async fn deliver(&self, items: &[Json]) -> Result<Vec<ItemResult>> {
        let rows = self
            .write(&calls::DELIVER, &[&items], "saga_deliver")
            .await?;
        ItemResult::of_rows(&rows, items.len())
    }

    pub(crate) async fn signal(&self, items: &[Json]) -> Result<Vec<ItemResult>> {
        let rows = self.write(&calls::SIGNAL, &[&items], "saga_signal").await?;
        ItemResult::of_rows(&rows, items.len())
    }

    /// Takes instances of these sagas and versions that are due.
    pub(crate) async fn claim(
        &self,
        holder: &str,
        sagas: &[String],
        versions: &[i32],
        max: usize,
        ttl: Duration,
    ) -> Result<Claims> {
        let max = i32::try_from(max).unwrap_or(i32::MAX);
        let ttl = ttl.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 5] = [&holder, &sagas, &versions, &max, &ttl];
        // A claim whose answer got lost is found again when its lease runs out: as good as nothing.
        let rows = self
            .calls
            .rows(&calls::CLAIM, &params, Effect::Reads, "saga_claim")
            .await?;
        Claims::of_rows(&rows)
    }

    /// An instance as it is; nobody holds it for that.
    pub(crate) async fn load(&self, saga: &str, instance: &str) -> Result<Option<Claimed>> {
        let rows = self
            .calls
            .rows(
                &calls::LOAD,
                &[&saga, &instance],
                Effect::Reads,
                "saga_load",
            )
            .await?;
        rows.first().map(Claimed::of_row).transpose()
    }

    /// Keeps leases; answers, in order, which are still held. None: it could not be told just now.
    pub(crate) async fn renew(
        &self,
        sagas: &[String],
        instances: &[String],
        fences: &[i64],
        ttl: Duration,
    ) -> Result<Vec<Option<bool>>> {
        let ttl = ttl.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 4] = [&sagas, &instances, &fences, &ttl];
        let rows = self
            .calls
            .rows(&calls::RENEW, &params, Effect::Reads, "saga_renew")
            .await?;
        renewed(&rows, fences.len())
    }

    async fn write(
        &self,
        call: &'static saga_support::Call,
        params: &[&(dyn ToSql + Sync)],
        what: &str,
    ) -> Result<Vec<Row>> {
        Ok(self.calls.rows(call, params, Effect::Writes, what).await?)
    }
}

fn renewed(rows: &[Row], asked: usize) -> Result<Vec<Option<bool>>> {
    let mut renewed = vec![None; asked];
    for row in rows {
        let item: i32 = column(row, 0)?;
        let place = usize::try_from(item).ok().and_then(|n| n.checked_sub(1));
        if let Some(known) = place.and_then(|place| renewed.get_mut(place)) {
            *known = column(row, 1)?;
        }
    }
    Ok(renewed)
}
