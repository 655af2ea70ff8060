//! Sagas in tests: items are JSON, and every call gives one row an item.

use mire_cluster::{Database, shared};
use postgres::{Client, GenericClient};
use serde_json::{Value, json};

use crate::session::{connect, value};

/// A fresh store with one instance, "1", whose step "a" is active.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let facts = json!([{"fact": "started"}, {"fact": "activated", "step": "a"}]);
    start(
        &mut client,
        &[started("1", &json!({"facts": facts, "steps": ["a"]}))],
    );
    (database, client)
}

/// The last fact in the history of instance "1".
pub fn last_fact(client: &mut Client) -> Value {
    value(
        client,
        "SELECT fact FROM mire.saga_history('t', '1') ORDER BY version DESC, ordinal DESC LIMIT 1",
    )
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The word for it.
    pub outcome: String,
    /// The instance's version.
    pub version: Option<i64>,
    /// The lease's token, when it is held.
    pub fence: Option<i64>,
    /// More about it.
    pub reason: Option<String>,
}

fn outcomes(
    client: &mut impl GenericClient,
    call: &str,
    params: &[&(dyn postgres::types::ToSql + Sync)],
) -> Vec<Outcome> {
    let query = format!("SELECT * FROM mire.{call}");
    let rows = client
        .query(&query, params)
        .unwrap_or_else(|error| panic!("{call}: {error:?}"));
    rows.iter()
        .enumerate()
        .map(|(n, row)| {
            assert_eq!(row.get::<_, i32>("item"), i32::try_from(n).unwrap() + 1);
            Outcome {
                outcome: row.get("outcome"),
                version: row.get("version"),
                fence: row.get("fence"),
                reason: row.get("reason"),
            }
        })
        .collect()
}

/// The words alone.
#[must_use]
pub fn words(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes.iter().map(|o| o.outcome.as_str()).collect()
}

/// `saga_start` by nobody in particular.
///
/// # Panics
/// When the call fails.
pub fn start(client: &mut impl GenericClient, items: &[Value]) -> Vec<Outcome> {
    outcomes(client, "saga_start($1)", &[&items])
}

/// `saga_start` by somebody who goes on with what has `keep`.
///
/// # Panics
/// When the call fails.
pub fn start_held(client: &mut impl GenericClient, items: &[Value], ttl: &str) -> Vec<Outcome> {
    outcomes(
        client,
        "saga_start($1, 'me', $2::text::interval)",
        &[&items, &ttl],
    )
}

/// `saga_commit` for a minute.
///
/// # Panics
/// When the call fails.
pub fn commit(client: &mut impl GenericClient, items: &[Value]) -> Vec<Outcome> {
    outcomes(client, "saga_commit($1, 'me', '1 min')", &[&items])
}

/// `saga_deliver`.
///
/// # Panics
/// When the call fails.
pub fn deliver(client: &mut impl GenericClient, items: &[Value]) -> Vec<Outcome> {
    outcomes(client, "saga_deliver($1)", &[&items])
}

/// `saga_signal`.
///
/// # Panics
/// When the call fails.
pub fn signal(client: &mut impl GenericClient, items: &[Value]) -> Vec<Outcome> {
    outcomes(client, "saga_signal($1)", &[&items])
}

/// `outbox_ack`.
///
/// # Panics
/// When the call fails.
pub fn ack(client: &mut impl GenericClient, items: &[Value]) -> Vec<Outcome> {
    outcomes(client, "outbox_ack($1)", &[&items])
}

/// An instance from a claim.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Which one.
    pub instance: String,
    /// Its version.
    pub version: i64,
    /// The token of the lease on it.
    pub fence: i64,
    /// Drives that came to nothing.
    pub attempts: i32,
    /// Its history.
    pub events: Value,
}

/// `saga_claim` of saga `t`, topology version 1: what was taken, and in how many seconds something is due.
///
/// # Panics
/// When the call fails.
pub fn claim(
    client: &mut impl GenericClient,
    holder: &str,
    max: i32,
    ttl: &str,
) -> (Vec<Claimed>, Option<f64>) {
    let rows = client
        .query(
            "SELECT *, extract(epoch FROM next_due_at - now)::float8 AS wait
               FROM mire.saga_claim($1, '{t}', '{1}', $2, $3::text::interval)",
            &[&holder, &max, &ttl],
        )
        .unwrap_or_else(|error| panic!("claim: {error:?}"));
    let (last, claimed) = rows.split_last().unwrap();
    assert_eq!(last.get::<_, Option<String>>("saga"), None);
    let claimed = claimed
        .iter()
        .map(|row| Claimed {
            instance: row.get("instance"),
            version: row.get("version"),
            fence: row.get("fence"),
            attempts: row.get("attempts"),
            events: row.get("events"),
        })
        .collect();
    (claimed, last.get("wait"))
}

/// The one instance that can be claimed.
///
/// # Panics
/// When there is none, or another number.
#[track_caller]
pub fn claim_one(client: &mut impl GenericClient, holder: &str, ttl: &str) -> Claimed {
    let (mut claimed, _) = claim(client, holder, 10, ttl);
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

/// An item that starts an instance of saga `t`, with more keys.
#[must_use]
pub fn started(instance: &str, more: &Value) -> Value {
    merged(
        json!({"saga": "t", "instance": instance, "topology_version": 1, "facts": [{"fact": "started", "state": {}}]}),
        more,
    )
}

/// An item that commits a fact about an instance of saga `t` and lets go of it, with more keys.
#[must_use]
pub fn change(instance: &str, version: i64, fence: Option<i64>, more: &Value) -> Value {
    merged(
        json!({"saga": "t", "instance": instance, "version": version, "fence": fence, "status": "running",
               "steps": ["a"], "facts": [{"fact": "abandoned", "step": "a"}]}),
        more,
    )
}

/// An item that answers step `a` of an instance of saga `t`, with more keys.
#[must_use]
pub fn answer(instance: &str, more: &Value) -> Value {
    merged(
        json!({"saga": "t", "instance": instance, "step": "a"}),
        more,
    )
}

/// A message for the outbox of an instance of saga `t`.
#[must_use]
pub fn message(key: &str, kind: &str) -> Value {
    json!({"key": key, "step": "a", "activation": 1, "kind": kind, "data": {"n": 1}})
}

fn merged(mut item: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        item[key] = value.clone();
    }
    item
}

/// A column of an instance's row of saga `t`, as text.
///
/// # Panics
/// When there is no such instance.
pub fn row(client: &mut Client, instance: &str, column: &str) -> Option<String> {
    value(
        client,
        &format!(
            "SELECT ({column})::text FROM mire.sagas WHERE saga = 't' AND instance = '{instance}'"
        ),
    )
}

/// What the view of leaks shows.
///
/// # Panics
/// When it cannot be asked.
pub fn leaks(client: &mut Client) -> Vec<String> {
    let rows = client
        .query(
            "SELECT concat_ws(' ', instance, reason) FROM mire.saga_leaks ORDER BY 1",
            &[],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A fresh store with one instance, "1", that "me" holds; with its fence.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn held(ttl: &str) -> (Database<'static>, Client, i64) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    start(&mut client, &[started("1", &json!({}))]);
    let fence = claim_one(&mut client, "me", ttl).fence;
    (database, client, fence)
}

/// Has an instance that nobody holds completed.
///
/// # Panics
/// When that is refused.
pub fn end(client: &mut Client, instance: &str, version: i64) {
    let end = json!({"status": "completed", "steps": [], "facts": [{"fact": "ended", "outcome": "completed"}]});
    assert_eq!(
        words(&commit(client, &[change(instance, version, None, &end)])),
        ["committed"]
    );
}

/// Keys and statuses of all messages in the outbox.
pub fn keys(client: &mut Client) -> String {
    value(
        client,
        "SELECT coalesce(string_agg(key || ' ' || status, ', ' ORDER BY key), '') FROM mire.outbox",
    )
}
