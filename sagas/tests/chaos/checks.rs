//! What must hold in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mire_sagas::{ListFilter, SagaRunner, SagaStatus};
use tokio_postgres::NoTls;

use super::booking::TravelBooking;
use super::provider::Provider;
use super::{PATIENCE, TTL};

pub(crate) async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn texts(sql: &tokio_postgres::Client, query: &str) -> Vec<String> {
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until there is nothing left to do; answers the instances that still have something.
pub(crate) async fn come_to_rest(sql: &tokio_postgres::Client, provider: &Provider) -> Vec<String> {
    let busy = "SELECT instance FROM mire.sagas WHERE ended_at IS NULL OR due_at IS NOT NULL OR holder IS NOT NULL
                UNION SELECT instance FROM mire.outbox_status WHERE status = 'pending'
                UNION SELECT stream FROM mire.stream_heads AS h WHERE starts_with(stream, 'trip-')
                  AND NOT EXISTS (SELECT FROM mire.sagas AS s WHERE 'trip-' || s.instance = h.stream)";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = texts(sql, busy).await;
        let calls = provider.counts().to_call.load(Ordering::SeqCst);
        if left.is_empty() && calls == 0 || Instant::now() > deadline {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) async fn outcomes(
    runner: &SagaRunner<TravelBooking>,
    trips: usize,
) -> BTreeMap<String, SagaStatus> {
    let all = [
        SagaStatus::Running,
        SagaStatus::Compensating,
        SagaStatus::Parked,
        SagaStatus::Intervention,
        SagaStatus::Completed,
        SagaStatus::Compensated,
        SagaStatus::Failed,
        SagaStatus::Cancelled,
    ];
    let all = ListFilter::new()
        .statuses(all)
        .max(u32::try_from(trips * 2).unwrap());
    let listed = runner.list(&all).await.unwrap();
    let ended = listed
        .into_iter()
        .map(|listed| (listed.instance, listed.status));
    ended.collect()
}

/// Waits until nobody holds the subscription: the lease of one that was killed at the very end runs out by itself.
pub(crate) async fn lease_runs_out(sql: &tokio_postgres::Client) {
    let deadline = Instant::now() + 2 * TTL;
    while !texts(sql, HELD).await.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const HELD: &str = "SELECT 'the subscription is held by ' || holder FROM mire.subscription_status WHERE holder IS NOT NULL";

/// Every index of ours has an entry for every row, in order: the rows of sagas and their messages are written past the executor.
const SOUND: &str = "CREATE EXTENSION IF NOT EXISTS amcheck;
    SELECT bt_index_check(c.oid, true)
      FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam
     WHERE c.relnamespace = 'mire'::regnamespace AND c.relkind = 'i' AND a.amname = 'btree'";

/// What must hold of the database at the end, and does not.
pub(crate) async fn broken_rules(sql: &tokio_postgres::Client) -> Vec<String> {
    let rules = [
        "SELECT 'leak: ' || saga || '/' || coalesce(instance, '') || ': ' || reason FROM mire.saga_leaks",
        "SELECT 'not at its end: ' || instance || ': ' || status FROM mire.sagas
          WHERE status NOT IN ('completed', 'compensated', 'cancelled')",
        "SELECT 'leased or due: ' || instance FROM mire.sagas
          WHERE holder IS NOT NULL OR lease_expires_at > clock_timestamp() OR due_at IS NOT NULL OR steps <> '{}'",
        "SELECT 'message ' || key || ' is ' || status FROM mire.outbox_status WHERE status IN ('pending', 'sent')",
        "SELECT 'stream ' || h.stream || ' has ' || count(*) || ' of ' || h.version || ' versions'
           FROM mire.stream_heads AS h JOIN mire.events AS e USING (stream_no)
          GROUP BY h.stream, h.version
         HAVING count(*) <> h.version OR min(e.version) <> 1 OR max(e.version) <> h.version",
        "SELECT 'stream without an instance: ' || h.stream FROM mire.stream_heads AS h
          WHERE starts_with(h.stream, '$saga:') AND NOT EXISTS (SELECT FROM mire.sagas AS s WHERE s.stream_no = h.stream_no)",
        "SELECT s.instance || ' completed in spite of ' || (f ->> 'fact')
           FROM mire.sagas AS s JOIN mire.events AS e USING (stream_no)
          CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'facts') AS f
          WHERE s.status = 'completed' AND f ->> 'fact' IN ('cancel_requested', 'signalled')
            AND e.version < (SELECT min(l.version) FROM mire.events AS l WHERE l.stream_no = s.stream_no AND l.type = '$saga_ended')",
        "SELECT s.instance || ': ' || count(*) || ' times ' || (f ->> 'fact') || ' ' || coalesce(f ->> 'step', '')
           FROM mire.sagas AS s JOIN mire.events AS e USING (stream_no)
          CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'facts') AS f
          WHERE f ->> 'fact' IN ('started', 'activated', 'completed', 'failed', 'timed_out', 'abandoned', 'compensation_started', 'ended')
            AND NOT f ? 'undo'
          GROUP BY s.instance, f ->> 'fact', f ->> 'step'
         HAVING count(*) > 1",
        HELD,
    ];
    let sound = sql.batch_execute(SOUND).await;
    let mut broken: Vec<String> = sound
        .err()
        .map(|error| format!("{error:?}"))
        .into_iter()
        .collect();
    for rule in rules {
        broken.extend(texts(sql, rule).await);
    }
    broken
}

pub(crate) async fn print_figures(sql: &tokio_postgres::Client, provider: &Provider) {
    let counts = provider.counts();
    let count = |figure: &AtomicUsize| figure.load(Ordering::SeqCst);
    println!(
        "provider: {} requests, {} out of order, {} answers lost, {} times a key again, {} calls back",
        count(&counts.requests),
        count(&counts.unavailable),
        count(&counts.cut_off),
        count(&counts.again),
        count(&counts.calls_back),
    );
    let facts =
        "SELECT CASE WHEN f ? 'undo' THEN 'undo ' ELSE '' END || (f ->> 'fact') || ' ' || count(*)
        FROM mire.events AS e JOIN mire.sagas AS s USING (stream_no)
       CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'facts') AS f
       GROUP BY f ->> 'fact', f ? 'undo' ORDER BY 1";
    println!("facts: {}", texts(sql, facts).await.join(", "));
    let after = "SELECT count(*)::text FROM mire.sagas AS s
        WHERE EXISTS (SELECT FROM mire.events AS e WHERE e.stream_no = s.stream_no AND e.type = '$saga_ended'
          AND EXISTS (SELECT FROM mire.events AS l WHERE l.stream_no = s.stream_no AND l.version > e.version))";
    let messages =
        "SELECT status || ' ' || count(*) FROM mire.outbox_status GROUP BY status ORDER BY 1";
    println!(
        "told something after their end: {}; messages that stay: {}",
        texts(sql, after).await.join(""),
        texts(sql, messages).await.join(", ")
    );
}
