//! Installing, updating, and the handshake: is this database one that this client can work with?

use tokio_postgres::error::SqlState;
use tracing::instrument;
use uuid::Uuid;

use super::EventStore;
use crate::connection::{Talk, calls};
use crate::error::{Doing, Error, ErrorKind, Result, from_driver};

/// The version of the SQL surface this client was written for.
const SCHEMA_VERSION: i32 = 1;

/// Who the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Its identity, kept across dump and restore.
    pub store_id: Uuid,
    /// Its epoch: grows when history has forked.
    pub epoch: i64,
    /// The version of its SQL surface.
    pub schema_version: i32,
    /// The extension's version.
    pub extension_version: String,
}

impl EventStore {
    /// Who the store is.
    ///
    /// # Errors
    /// [`is_setup`](Error::is_setup) when the extension is missing, too old, too new, or not granted to this role; the
    /// message says what to run.
    #[instrument(level = "debug", skip_all, err(level = "debug"))]
    pub async fn info(&self) -> Result<StoreInfo> {
        handshake(&self.connector.pooled().await?).await
    }

    /// Installs the extension, or brings it up to date, where this role may; then checks that client and store fit.
    ///
    /// # Errors
    /// [`is_setup`](Error::is_setup); the message says what to run, and as whom.
    #[instrument(level = "debug", skip_all, err(level = "debug"))]
    pub async fn migrate(&self) -> Result<StoreInfo> {
        let conn = self.connector.pooled().await?;
        for statement in [calls::CREATE_EXTENSION, calls::UPDATE_EXTENSION] {
            let Err(error) = conn.batch(statement).await else {
                continue;
            };
            if !may_go_on_after(&error) {
                return Err(from_driver(error, Doing::Reading(statement)));
            }
            tracing::debug!(statement, %error, "left to somebody else");
        }
        handshake(&conn).await
    }
}

/// This role may not, or another session is just doing it, or the files are not there: the handshake decides.
fn may_go_on_after(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            &SqlState::INSUFFICIENT_PRIVILEGE,
            &SqlState::UNIQUE_VIOLATION,
            &SqlState::DUPLICATE_OBJECT,
            &SqlState::UNDEFINED_OBJECT,
            &SqlState::UNDEFINED_FILE,
            &SqlState::FEATURE_NOT_SUPPORTED,
            &SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(&code)
    })
}

async fn handshake(conn: &impl Talk) -> Result<StoreInfo> {
    let row = conn.row(&calls::STORE_INFO, &[], Doing::Reading("store_info")).await.map_err(|e| match e.kind() {
        ErrorKind::Setup { reason } => {
            let reason = format!(
                "this database cannot be used as an event store yet ({reason}). As a superuser, in this database: \
                 CREATE EXTENSION pg_mire; then SELECT mire.grant_access('<this role>', 'writer')"
            );
            Error::with_source(ErrorKind::Setup { reason }, e)
        }
        _ => e,
    })?;
    let read = || -> Result<_, tokio_postgres::Error> {
        Ok(StoreInfo {
            store_id: row.try_get(0)?,
            epoch: row.try_get(1)?,
            schema_version: row.try_get(2)?,
            extension_version: row.try_get::<_, Option<String>>(3)?.unwrap_or_default(),
        })
    };
    let info = read().map_err(|e| {
        Error::with_source(
            ErrorKind::Decode {
                what: "store_info".into(),
            },
            e,
        )
    })?;
    let has = info.schema_version;
    if has < SCHEMA_VERSION {
        let reason = format!(
            "the store's schema version is {has}, this client needs {SCHEMA_VERSION}: as a superuser run ALTER EXTENSION \
             pg_mire UPDATE (after installing the new files on the server)"
        );
        return Err(Error::new(ErrorKind::Setup { reason }));
    }
    if has > SCHEMA_VERSION {
        let reason = format!(
            "the store's schema version is {has}, this client knows only {SCHEMA_VERSION}: update mire-client"
        );
        return Err(Error::new(ErrorKind::Setup { reason }));
    }
    Ok(info)
}
