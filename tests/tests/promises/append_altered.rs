//! Appending to tables that somebody has altered: indexes that a user has added hold every row; what such an insert would pass
//! by is refused.

use std::thread;
use std::time::Instant;

use mire_cluster::shared;
use mire_tests::batch::{Item, append_batch};
use mire_tests::session::{append, connect, events, refused, torture_time, value};
use postgres::Client;
use serde_json::json;

/// Indexes of every kind that matters: plain, on an expression, partial, summarizing, and one that forbids heap-only
/// updates of streams' rows. No two of them can answer the same query, so the planner has no choice.
const INDEXES: &str = "
    CREATE EXTENSION amcheck;
    CREATE INDEX added_type ON mire.events (type, recorded_at);
    CREATE INDEX added_key ON mire.events ((data ->> 'n'), upper(category));
    CREATE INDEX added_partial ON mire.events (event_id) WHERE metadata IS NOT NULL;
    CREATE INDEX added_gin ON mire.events USING gin (data);
    CREATE INDEX added_brin ON mire.events USING brin (recorded_at);
    CREATE INDEX added_version ON mire.stream_heads (version);
    CREATE INDEX added_created ON mire.stream_heads USING brin (created_at);
";

/// Every btree holds an entry for every row, in order, and nothing twice.
const SOUND: &str = "
    SELECT bt_index_check(indexrelid, true)
      FROM pg_index AS i
      JOIN pg_class AS c ON c.oid = i.indexrelid
      JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'btree'
     WHERE indrelid IN ('mire.events'::regclass, 'mire.stream_heads'::regclass)";

/// The same answer through an index and without one.
fn same_by_index(client: &mut Client, index: &str, query: &str) {
    client
        .batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = on")
        .unwrap();
    let plan: Vec<String> = client
        .query(&format!("EXPLAIN {query}"), &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(plan.iter().any(|line| line.contains(index)), "{plan:?}");
    let by_index: i64 = value(client, query);
    client
        .batch_execute("SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")
        .unwrap();
    let without: i64 = value(client, query);
    client
        .batch_execute("RESET enable_seqscan; RESET enable_indexscan; RESET enable_indexonlyscan; RESET enable_bitmapscan")
        .unwrap();
    assert_eq!(by_index, without, "{query}");
    assert!(without > 0, "{query} finds nothing");
}

#[test]
fn indexes_that_a_user_has_added_hold_every_row_after_a_torture() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client.batch_execute(INDEXES).unwrap();
    let until = Instant::now() + torture_time(4, 30);
    thread::scope(|scope| {
        for worker in 0..4 {
            let mut client = connect(&database.url);
            scope.spawn(move || {
                for round in 0_usize.. {
                    if Instant::now() > until {
                        break;
                    }
                    let own = format!("own{worker}-{round}");
                    append(&mut client, &own, &events(3), Some(0)).unwrap();
                    append(&mut client, "shared-1", &events(1), None).unwrap();
                    // Two that create the same stream, and a conflict.
                    let fresh = format!("fresh-{round}");
                    let _ = append(&mut client, &fresh, &events(1), Some(0));
                    let marked = json!([{"type": "marked", "data": {"n": round}, "metadata": {"by": worker}}]);
                    append(&mut client, &own, &marked, Some(3)).unwrap();
                    let items: Vec<Item> = (0..10)
                        .map(|n| Item::new(format!("batch-{}", (n + worker) % 12), None, 1 + n % 3))
                        .collect();
                    append_batch(&mut client, &items).unwrap();
                    // Rolled back: leaves entries that point to dead rows.
                    let mut transaction = client.transaction().unwrap();
                    append(&mut transaction, &own, &events(2), Some(4)).unwrap();
                    append(&mut transaction, &format!("never-{worker}-{round}"), &events(1), Some(0)).unwrap();
                    transaction.rollback().unwrap();
                }
            });
        }
    });
    client.query(SOUND, &[]).unwrap();
    for (index, query) in [
        (
            "added_type",
            "SELECT count(*) FROM mire.events WHERE type = 'marked'",
        ),
        (
            "added_key",
            "SELECT count(*) FROM mire.events WHERE data ->> 'n' = '1'",
        ),
        (
            "added_partial",
            "SELECT count(*) FROM mire.events WHERE metadata IS NOT NULL AND event_id > '00000000-0000-0000-0000-000000000000'",
        ),
        (
            "added_gin",
            "SELECT count(*) FROM mire.events WHERE data @> '{\"n\": 2}'",
        ),
        (
            "added_version",
            "SELECT count(*) FROM mire.stream_heads WHERE version = 4",
        ),
    ] {
        same_by_index(&mut client, index, query);
    }
    // Versions have no gap and the heads say how far they go.
    let broken: i64 = value(
        &mut client,
        "SELECT count(*)
           FROM mire.stream_heads AS s
           FULL JOIN (SELECT e.stream_no, count(*) AS count, max(e.version) AS last, min(e.version) AS first
                        FROM mire.events AS e GROUP BY e.stream_no) AS e USING (stream_no)
          WHERE (s.version, e.count, e.last, e.first) IS DISTINCT FROM (e.last, e.last, e.last, 1)",
    );
    assert_eq!(broken, 0);
    // Index scans and sequential ones agree on what is there at all.
    client
        .batch_execute("VACUUM mire.events, mire.stream_heads")
        .unwrap();
    client.query(SOUND, &[]).unwrap();
}

#[test]
fn columns_of_another_type_are_refused_and_not_taken_for_what_they_were() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    client
        .batch_execute("SELECT mire.save_snapshot('s-1', 2, 1, '{}')")
        .unwrap();
    for (table, column, other, back) in [
        ("events", "metadata", "text", "jsonb"),
        ("events", "event_id", "text", "uuid"),
        ("snapshots", "state", "text", "jsonb"),
    ] {
        let alter = |kind: &str| {
            format!("ALTER TABLE mire.{table} ALTER {column} TYPE {kind} USING {column}::{kind}")
        };
        client.batch_execute(&alter(other)).unwrap();
        for call in [
            "SELECT mire.append('s-1', '[{\"type\": \"t\", \"data\": 1}]')",
            "SELECT mire.load_stream('s-1', 1)",
            "SELECT mire.load_stream_packed('s-1', 1)",
            "SELECT mire.read_all()",
            "SELECT mire.read_all_packed()",
        ] {
            let untouched = table == "snapshots" && !call.contains("load");
            if untouched {
                client.simple_query(call).unwrap();
            } else {
                refused(client.simple_query(call), "55000");
            }
        }
        client.batch_execute(&alter(back)).unwrap();
    }
    let loaded = "SELECT count(*) FROM mire.load_stream('s-1')";
    assert!(value::<i64>(&mut client, loaded) > 3);
}

#[test]
fn a_column_that_must_have_a_value_now_is_heeded() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("ALTER TABLE mire.events ALTER metadata SET NOT NULL")
        .unwrap();
    let with = json!([{"type": "t", "data": 1, "metadata": {"by": "me"}}]);
    let without = json!([{"type": "t", "data": 1, "metadata": {}}, {"type": "t", "data": 1}]);
    append(&mut client, "s-1", &with, Some(0)).unwrap();
    refused(append(&mut client, "s-1", &without, Some(1)), "23502");
    append(&mut client, "s-1", &with, Some(1)).unwrap();
}

#[test]
fn tables_with_what_append_would_pass_by_are_refused() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
    client
        .batch_execute(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
        .unwrap();
    for (make, unmake) in [
        (
            "CREATE TRIGGER added BEFORE INSERT ON mire.events FOR EACH ROW EXECUTE FUNCTION nothing()",
            "DROP TRIGGER added ON mire.events",
        ),
        (
            "CREATE TRIGGER added AFTER UPDATE ON mire.stream_heads FOR EACH STATEMENT EXECUTE FUNCTION nothing()",
            "DROP TRIGGER added ON mire.stream_heads",
        ),
        (
            "ALTER TABLE mire.events ADD CONSTRAINT added CHECK (type <> 'forbidden')",
            "ALTER TABLE mire.events DROP CONSTRAINT added",
        ),
        (
            "ALTER TABLE mire.stream_heads ADD CONSTRAINT added UNIQUE (stream, version) DEFERRABLE",
            "ALTER TABLE mire.stream_heads DROP CONSTRAINT added",
        ),
        (
            "ALTER TABLE mire.events FORCE ROW LEVEL SECURITY",
            "ALTER TABLE mire.events NO FORCE ROW LEVEL SECURITY",
        ),
    ] {
        client.batch_execute(make).unwrap();
        refused(append(&mut client, "s-1", &events(1), None), "55000");
        let batch = append_batch(&mut client, &[Item::new("s-1", None, 1)]);
        refused(batch, "55000");
        client.batch_execute(unmake).unwrap();
        append(&mut client, "s-1", &events(1), None).unwrap();
    }
}
