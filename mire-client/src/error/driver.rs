//! From the driver's errors to ours: by SQLSTATE, by the JSON in DETAIL, and by what an ended connection means for what
//! was being done.

use std::sync::Arc;

use deadpool_postgres::PoolError;
use serde::Deserialize;
use tokio_postgres::error::{DbError, Severity};

use super::{Conflict, Error, ErrorKind, Inner};
use crate::sqlstate;

/// What was being done when the database objected: decides what an ended connection means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing<'a> {
    /// Reading, or anything else that changes nothing.
    Reading(&'a str),
    /// Writing: without an answer, the outcome is unknown.
    Writing(&'a str),
    /// Writing inside a transaction that has yet to commit: without an answer, nothing happened.
    InTransaction(&'a str),
}

impl Doing<'_> {
    fn subject(&self) -> &str {
        match self {
            Self::Reading(s) | Self::Writing(s) | Self::InTransaction(s) => s,
        }
    }
}

/// The connection is gone, or is about to go, and what it was doing may or may not have been committed.
pub(crate) fn lost_connection(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(db) => {
            let code = db.code().code();
            matches!(
                db.parsed_severity(),
                Some(Severity::Fatal | Severity::Panic)
            ) || code.starts_with(sqlstate::CONNECTION_EXCEPTION_CLASS)
                || code == sqlstate::COMPLETION_UNKNOWN
                || sqlstate::SHUTDOWN.contains(&code)
        }
        // Encoding a parameter or decoding a row is a mistake of ours; everything else is the socket.
        None => error.is_closed() || source_is_io(error),
    }
}

fn source_is_io(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>())
}

/// Turns a driver error into ours.
pub(crate) fn from_driver(error: tokio_postgres::Error, doing: Doing<'_>) -> Error {
    let sqlstate = error.code().map(|code| code.code().to_owned());
    let kind = if lost_connection(&error) {
        match doing {
            Doing::Writing(what) => ErrorKind::OutcomeUnknown { what: what.into() },
            _ => ErrorKind::Connection {
                reason: error.to_string(),
            },
        }
    } else if let Some(db) = error.as_db_error() {
        from_db(db, doing.subject())
    } else {
        ErrorKind::Database {
            reason: error.to_string(),
        }
    };
    Error(Arc::new(Inner {
        kind,
        sqlstate,
        source: Some(error.into()),
    }))
}

/// Turns an error met while connecting, before anything was sent, into ours.
pub(crate) fn from_connect(error: tokio_postgres::Error) -> Error {
    let sqlstate = error.code().map(|code| code.code().to_owned());
    let reason = with_source_text(&error);
    Error(Arc::new(Inner {
        kind: ErrorKind::Connection { reason },
        sqlstate,
        source: Some(error.into()),
    }))
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => from_connect(error),
            other => Self::with_source(
                ErrorKind::Connection {
                    reason: other.to_string(),
                },
                other,
            ),
        }
    }
}

/// `tokio_postgres::Error` says "db error" and leaves the text to its source.
fn with_source_text(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[derive(Deserialize, Default)]
struct Detail {
    stream: Option<String>,
    expected: Option<i64>,
    actual: Option<i64>,
    #[serde(default)]
    reason: Option<String>,
}

fn from_db(db: &DbError, subject: &str) -> ErrorKind {
    let detail: Detail = db
        .detail()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let stream = detail.stream.unwrap_or_else(|| subject.to_owned());
    let said = match db.hint() {
        Some(hint) => format!("{} ({hint})", db.message()),
        None => db.message().to_owned(),
    };
    let code = db.code().code();
    match code {
        sqlstate::VERSION_CONFLICT => ErrorKind::Conflict(Conflict {
            stream,
            expected: detail.expected,
            actual: detail.actual,
        }),
        sqlstate::STREAM_NOT_FOUND => ErrorKind::NotFound { stream },
        sqlstate::LEASE_LOST => ErrorKind::LeaseLost {
            reason: db.message().to_owned(),
        },
        sqlstate::INVALID_INPUT => match detail.reason {
            Some(reason) if !db.message().contains(&reason) => ErrorKind::Invalid {
                reason: format!("{}: {reason}", db.message()),
            },
            _ => ErrorKind::Invalid {
                reason: db.message().to_owned(),
            },
        },
        sqlstate::STREAM_DELETED => ErrorKind::Deleted { stream },
        sqlstate::APPEND_ONLY => ErrorKind::AppendOnly { reason: said },
        sqlstate::FEED_UNSAFE_HERE => ErrorKind::FeedUnsafe { reason: said },
        sqlstate::SAGA_NOT_FOUND => ErrorKind::SagaNotFound { reason: said },
        sqlstate::SAGA_STATE => ErrorKind::SagaState { reason: said },
        sqlstate::LOCK_NOT_AVAILABLE => ErrorKind::Busy { stream },
        sqlstate::READ_ONLY => ErrorKind::Connection {
            reason: format!("the server takes no writes: {said}"),
        },
        sqlstate::UNDEFINED_FUNCTION | sqlstate::INVALID_SCHEMA => ErrorKind::Setup {
            reason: format!(
                "{said}: the extension is missing or too old; run CREATE EXTENSION pg_mire or ALTER EXTENSION pg_mire UPDATE"
            ),
        },
        sqlstate::INSUFFICIENT_PRIVILEGE => ErrorKind::Setup {
            reason: format!(
                "{said}: run SELECT mire.grant_access(role, 'reader' | 'writer' | 'admin') as an administrator of the store"
            ),
        },
        _ if code.starts_with(sqlstate::DATA_EXCEPTION_CLASS)
            || code.starts_with(sqlstate::LIMIT_EXCEEDED_CLASS) =>
        {
            ErrorKind::Invalid { reason: said }
        }
        _ => ErrorKind::Database { reason: said },
    }
}
