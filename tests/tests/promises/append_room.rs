//! Where events lie in their table: each behind the one before, and where pruning has made room, there.

use mire_cluster::shared;
use mire_tests::session::{append, connect, value};
use postgres::Client;
use serde_json::{Value, json};

/// So many events with so many bytes of data that do not compress.
fn of_size(count: usize, bytes: usize) -> Value {
    let mut state = 1_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + (state >> 33) as u8 % 90)
    };
    let text: String = (0..bytes)
        .map(|_| noise())
        .filter(|c| !"\"\\".contains(*c))
        .collect();
    Value::Array(vec![json!({"type": "t", "data": text}); count])
}

/// The first and the last page of the log's last events, and how many pages they lie on.
fn pages(client: &mut Client, last: i64) -> (i64, i64, i64) {
    let row = client
        .query_one(
            "SELECT min(page), max(page), count(DISTINCT page)
               FROM (SELECT (ctid::text::point)[0]::bigint AS page FROM mire.events ORDER BY position DESC LIMIT $1) AS e",
            &[&last],
        )
        .unwrap();
    (row.get(0), row.get(1), row.get(2))
}

fn size(client: &mut Client) -> i64 {
    value(client, "SELECT pg_relation_size('mire.events') / 8192")
}

/// Pages of the table with what is stored out of line.
fn total(client: &mut Client) -> i64 {
    value(client, "SELECT pg_table_size('mire.events') / 8192")
}

#[test]
fn small_events_go_on_at_the_end_and_leave_the_room_in_old_pages_alone() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    // Six to a page, and room for some small ones.
    append(&mut client, "large-1", &of_size(300, 1_100), None).unwrap();
    client.batch_execute("VACUUM mire.events").unwrap();
    // Also in a session that has not written yet.
    for mut client in [connect(&database.url), client] {
        let end = size(&mut client) - 1;
        for _ in 0..60 {
            append(&mut client, "small-1", &of_size(1, 20), None).unwrap();
        }
        let (first, last, count) = pages(&mut client, 60);
        assert!(
            first >= end && last <= end + 3 && count <= 3,
            "pages {first} to {last}, {count} of them; the end was {end}"
        );
    }
}

/// Rows of many sizes in one call: those of a page are written together, and large ones by themselves.
#[test]
fn events_of_all_sizes_in_one_call_are_all_there_in_their_order() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let sizes: Vec<usize> = (0..200)
        .map(|n| match n % 23 {
            5 => 3_000,
            11 => 30_000,
            17 => 1_850,
            19 => 2_000,
            _ => 1 + n,
        })
        .collect();
    let mut sent = Vec::new();
    for (n, bytes) in sizes.iter().enumerate() {
        let Value::Array(mut one) = of_size(1, *bytes) else {
            unreachable!("an array");
        };
        one[0]["metadata"] = json!({ "n": n });
        sent.append(&mut one);
    }
    for stream in ["s-1", "s-2"] {
        append(&mut client, stream, &Value::Array(sent.clone()), Some(0)).unwrap();
        let kept: Value = value(
            &mut client,
            &format!(
                "SELECT jsonb_agg(jsonb_build_object('type', type, 'data', data, 'metadata', metadata) ORDER BY position)
                   FROM mire.read_stream('{stream}')"
            ),
        );
        assert!(kept == Value::Array(sent.clone()), "{stream} differs");
    }
    // In the feed, and in every index.
    let found: i64 = value(
        &mut client,
        "SELECT count(*) FROM (SELECT e.version, row_number() OVER (PARTITION BY e.stream_no ORDER BY e.position) AS n
                                 FROM mire.events AS e) AS e WHERE e.version = e.n",
    );
    assert_eq!(found, 400);
    client
        .batch_execute("CREATE EXTENSION amcheck; SELECT bt_index_check(i.indexrelid, true) FROM pg_index AS i WHERE i.indrelid = 'mire.events'::regclass")
        .unwrap();
}

/// One entry in the WAL for the rows of a page, where each would have had its own.
#[test]
fn small_events_of_one_call_share_an_entry_in_the_wal() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("CREATE EXTENSION pg_walinspect")
        .unwrap();
    append(&mut client, "s-1", &of_size(100, 20), None).unwrap();
    let before: String = value(&mut client, "SELECT pg_current_wal_insert_lsn()::text");
    append(&mut client, "s-1", &of_size(100, 20), None).unwrap();
    let file: String = value(
        &mut client,
        "SELECT concat(oid, '/', pg_relation_filenode('mire.events')) FROM pg_database WHERE datname = current_database()",
    );
    let entries: i64 = value(
        &mut client,
        &format!(
            "SELECT count(*) FROM pg_get_wal_records_info('{before}', pg_current_wal_flush_lsn())
              WHERE resource_manager IN ('Heap', 'Heap2') AND block_ref ~ '/{file} fork'"
        ),
    );
    assert!(
        (3..10).contains(&entries),
        "{entries} entries for 100 events"
    );
}

#[test]
fn pages_that_were_emptied_are_filled_again() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for bytes in [20, 900, 6_000] {
        let stream = format!("s-{bytes}");
        for _ in 0..20 {
            append(&mut client, &stream, &of_size(100, bytes), None).unwrap();
        }
        append(&mut client, "between", &of_size(1, 20), None).unwrap();
    }
    let before = (size(&mut client), total(&mut client));
    for bytes in [20, 900, 6_000] {
        client
            .execute(
                "SELECT mire.truncate_stream($1, 2001)",
                &[&format!("s-{bytes}")],
            )
            .unwrap();
    }
    client.batch_execute("VACUUM mire.events").unwrap();
    // Another session than the one that has a page in hand; and one event a call, and many.
    let mut client = connect(&database.url);
    for bytes in [6_000, 900, 20] {
        for _ in 0..10 {
            append(&mut client, "again", &of_size(100, bytes), None).unwrap();
        }
        for _ in 0..1_000 {
            append(&mut client, "again", &of_size(1, bytes), None).unwrap();
        }
    }
    let after = (size(&mut client), total(&mut client));
    assert!(
        after.0 <= before.0 * 21 / 20 && after.1 <= before.1 * 21 / 20,
        "{before:?} pages, then {after:?}"
    );
}
