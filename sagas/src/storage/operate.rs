//! What operators ask, and want done.

use std::time::Duration;

use mire_client::saga_support::{Call, Effect, Row, ToSql, column};
use serde_json::Value;

use super::Storage;
use super::rows::fact_column;
use crate::calls;
use crate::engine::Micros;
use crate::error::Result;

/// A row of `saga_list`.
#[derive(Debug)]
pub(crate) struct ListedRow {
    pub(crate) saga: String,
    pub(crate) instance: String,
    pub(crate) topology_version: i32,
    pub(crate) status: String,
    pub(crate) steps: Vec<String>,
    pub(crate) error: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) started_at: Micros,
    pub(crate) changed_at: Micros,
    pub(crate) ended_at: Option<Micros>,
}

/// A fact of an instance's history.
#[derive(Debug)]
pub(crate) struct HistoryRow {
    pub(crate) version: i64,
    pub(crate) recorded_at: Micros,
    pub(crate) fact: Value,
}

impl Storage {
    /// Calls that say one thing about one instance.
    pub(crate) async fn operate(
        &self,
        call: &'static Call,
        saga: &str,
        instance: &str,
        word: Option<&str>,
    ) -> Result<()> {
        self.write(call, &[&saga, &instance, &word], "an operator's call")
            .await?;
        Ok(())
    }

    pub(crate) async fn resume(&self, saga: &str, instance: &str) -> Result<()> {
        self.write(&calls::RESUME, &[&saga, &instance], "saga_resume")
            .await?;
        Ok(())
    }

    pub(crate) async fn describe(&self, saga: &str, instance: &str) -> Result<Vec<String>> {
        let rows = self
            .read(&calls::DESCRIBE, &[&saga, &instance], "saga_describe")
            .await?;
        rows.iter().map(|row| Ok(column(row, 0)?)).collect()
    }

    pub(crate) async fn history(&self, saga: &str, instance: &str) -> Result<Vec<HistoryRow>> {
        let rows = self
            .read(&calls::HISTORY, &[&saga, &instance], "saga_history")
            .await?;
        let read = |row: &Row| {
            Ok(HistoryRow {
                version: column(row, 0)?,
                recorded_at: column(row, 1)?,
                fact: fact_column(row, 2)?,
            })
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn list(
        &self,
        saga: &str,
        statuses: Option<&[&str]>,
        step: Option<&str>,
        min_age: Option<Duration>,
        error: Option<&str>,
        max: u32,
    ) -> Result<Vec<ListedRow>> {
        let min_age = min_age.map(|age| age.as_secs_f64());
        let max = i32::try_from(max).unwrap_or(i32::MAX);
        let params: [&(dyn ToSql + Sync); 6] = [&saga, &statuses, &step, &min_age, &error, &max];
        let rows = self.read(&calls::LIST, &params, "saga_list").await?;
        let read = |row: &Row| {
            Ok(ListedRow {
                saga: column(row, 0)?,
                instance: column(row, 1)?,
                topology_version: column(row, 2)?,
                status: column(row, 3)?,
                steps: column::<Option<Vec<String>>>(row, 4)?.unwrap_or_default(),
                error: column(row, 5)?,
                attempts: column::<Option<i32>>(row, 6)?.unwrap_or_default(),
                started_at: column(row, 7)?,
                changed_at: column(row, 8)?,
                ended_at: column(row, 9)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Open instances of these sagas by topology version.
    pub(crate) async fn open_versions(&self, sagas: &[String]) -> Result<Vec<(String, i32, i64)>> {
        let rows = self
            .read(&calls::STRANDED, &[&sagas], "saga_status")
            .await?;
        rows.iter()
            .map(|row| Ok((column(row, 0)?, column(row, 1)?, column(row, 2)?)))
            .collect()
    }

    async fn read(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
        what: &str,
    ) -> Result<Vec<Row>> {
        Ok(self.calls.rows(call, params, Effect::Reads, what).await?)
    }
}
