//! What `mire-sagas` is built on: function calls as this client makes them, on its connections and with its errors. No part
//! of the API.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio_postgres::types::{FromSql, FromSqlOwned};

use crate::connection::{self, Connector, Talk};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};
use crate::json::JsonRef;
use crate::store::EventStore;
use crate::transaction::Transaction;

pub use tokio_postgres::Row;
pub use tokio_postgres::types::{ToSql, Type};

/// A statement and the types of its parameters.
#[derive(Debug)]
pub struct Call(connection::calls::Call);

impl std::fmt::Debug for connection::calls::Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sql)
    }
}

impl Call {
    /// One function call.
    #[must_use]
    pub const fn new(sql: &'static str, types: &'static [Type]) -> Self {
        Self(connection::calls::Call { sql, types })
    }
}

/// What a lost connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is changed by the call.
    Reads,
    /// Without an answer the outcome is unknown.
    Writes,
}

/// The connections of a store.
#[derive(Clone)]
pub struct Calls(Arc<Connector>);

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    /// On the pool of this store.
    #[must_use]
    pub fn of(store: &EventStore) -> Self {
        Self(store.connector.clone())
    }

    /// Makes a call on a connection of the pool.
    ///
    /// # Errors
    /// As the SQLSTATE says.
    pub async fn rows(
        &self,
        call: &'static Call,
        params: &[&(dyn ToSql + Sync)],
        effect: Effect,
        what: &str,
    ) -> Result<Vec<Row>> {
        let doing = match effect {
            Effect::Reads => Doing::Reading(what),
            Effect::Writes => Doing::Writing(what),
        };
        let conn = self.0.pooled().await?;
        conn.rows(&call.0, params)
            .await
            .map_err(|e| from_driver(e, doing))
    }
}

/// Makes a call inside a transaction.
///
/// # Errors
/// As the SQLSTATE says.
pub async fn rows_in(
    tx: &mut Transaction,
    call: &'static Call,
    params: &[&(dyn ToSql + Sync)],
    what: &str,
) -> Result<Vec<Row>> {
    tx.conn()
        .rows(&call.0, params)
        .await
        .map_err(|e| from_driver(e, Doing::InTransaction(what)))
}

/// A column of a row.
///
/// # Errors
/// [`ErrorKind::Decode`] when it is not of that type.
pub fn column<T: FromSqlOwned>(row: &Row, index: usize) -> Result<T> {
    get(row, index)
}

/// A `jsonb` column of a row; None for NULL. The outer error says that the row is not as expected, the inner one that the
/// JSON is not.
///
/// # Errors
/// [`ErrorKind::Decode`] when it is no JSON at all.
pub fn json_column<T: DeserializeOwned>(
    row: &Row,
    index: usize,
) -> Result<Option<Result<T, serde_json::Error>>> {
    let json: Option<JsonRef<'_>> = get(row, index)?;
    Ok(json.map(|json| serde_json::from_slice(json.0)))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|e| {
        Error::with_source(
            ErrorKind::Decode {
                what: format!("column {} of an answer", index + 1),
            },
            e,
        )
    })
}
