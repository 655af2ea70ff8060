//! Sessions of plain `postgres` clients, and the few calls that nearly every test makes.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use mire_cluster::Database;
use postgres::error::DbError;
use postgres::{Client, Error, GenericClient, NoTls, Row};
use serde_json::{Value, json};

/// How long a condition may take to come true before the test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session at a URL.
///
/// # Panics
/// When there is no connection to be had.
#[must_use]
pub fn connect(url: &str) -> Client {
    Client::connect(url, NoTls).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}

/// What `append` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The stream's version after the append.
    pub version: i64,
    /// The last event's position; none when no events were given.
    pub position: Option<i64>,
    /// Whether it is the first answer again.
    pub duplicate: bool,
}

impl From<Row> for Appended {
    fn from(row: Row) -> Self {
        Self {
            version: row.get("version"),
            position: row.get("position"),
            duplicate: row.get("duplicate"),
        }
    }
}

/// `mire.append`.
///
/// # Errors
/// What the server says.
pub fn append(
    client: &mut impl GenericClient,
    stream: &str,
    events: &Value,
    expected: Option<i64>,
) -> Result<Appended, Error> {
    client
        .query_one(
            "SELECT * FROM mire.append($1, $2, $3)",
            &[&stream, events, &expected],
        )
        .map(Appended::from)
}

/// As many plain events as asked for.
#[must_use]
pub fn events(count: usize) -> Value {
    (1..=count)
        .map(|n| json!({"type": "happened", "data": {"n": n}}))
        .collect()
}

/// A single value; what it is to be follows from the use.
///
/// # Panics
/// When the query fails.
pub fn value<T>(client: &mut impl GenericClient, sql: &str) -> T
where
    T: for<'a> postgres::types::FromSql<'a>,
{
    client
        .query_one(sql, &[])
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        .get(0)
}

/// The server's error if there was one with this SQLSTATE.
///
/// # Panics
/// When the call succeeded or failed otherwise.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, Error>, sqlstate: &str) -> DbError {
    let error = match result {
        Ok(value) => panic!("expected {sqlstate}, but it succeeded: {value:?}"),
        Err(error) => error,
    };
    let said = error
        .as_db_error()
        .unwrap_or_else(|| panic!("expected {sqlstate}, got {error:?}"));
    assert_eq!(said.code().code(), sqlstate, "{said:?}");
    said.clone()
}

/// The backend's process id.
pub fn pid(client: &mut Client) -> i32 {
    value(client, "SELECT pg_backend_pid()")
}

/// Waits until a backend waits for a lock.
///
/// # Panics
/// When it does not in reasonable time.
#[track_caller]
pub fn wait_until_blocked(database: &Database<'_>, pid: i32) {
    let mut observer = connect(&database.url);
    wait_until(&format!("backend {pid} waits for a lock"), || {
        observer
            .query_one("SELECT cardinality(pg_blocking_pids($1)) > 0", &[&pid])
            .unwrap()
            .get(0)
    });
}

/// Waits until something is so.
///
/// # Panics
/// When it is not in reasonable time.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(
            Instant::now() < deadline,
            "still not after {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The length of a torture in seconds: the short one, or the long one under `MIRE_LONG=1`.
#[must_use]
pub fn torture_time(short: u64, long: u64) -> Duration {
    let long_wanted = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    Duration::from_secs(if long_wanted { long } else { short })
}
