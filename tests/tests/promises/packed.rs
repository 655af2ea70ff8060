//! Packed answers are the rows of the plain ones, byte for byte as PostgreSQL's own COPY writes them.

use std::io::Read;

use mire_cluster::{Database, shared};
use mire_tests::session::{connect, value};
use mire_tests::subscription::{Partition, create};
use postgres::Client;

/// All kinds of payloads: none and empty ones, escapes, numbers of many digits, compressed and toasted ones, several streams, other
/// categories, a snapshot, a truncated and a deleted stream.
const STORE: &str = r#"
  SELECT mire.append_events('a-' || s, '{created,changed,closed}',
           ARRAY['{}', to_jsonb(repeat('x', s * 700)), '[1, {"k": [null, true, "\u00e4\n\"\\ 😀"]}, -1.50e-20, 12345678901234567890.10]'],
           ARRAY[NULL, '{"schema": 2}', NULL]::jsonb[])
    FROM generate_series(1, 20) AS s;
  SELECT mire.append_events('a-1', array_fill('changed'::text, ARRAY[400]), array_fill('{"cents": 5}'::jsonb, ARRAY[400]));
  SELECT mire.append_events('b-1', '{random}', ARRAY[
           (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 4000) AS i)]);
  SELECT mire.append_events('b-2', '{large}', ARRAY[to_jsonb(repeat('y', 1000000))]);
  SELECT mire.save_snapshot('a-1', 390, 1, '{"sum": 1950}');
  SELECT mire.truncate_stream('a-2', 3);
  SELECT mire.delete_stream('a-3', NULL);
"#;

/// A hole in the feed.
const HOLE: &str = "BEGIN; SELECT mire.append_events('a-4', '{lost}', '{1}'); ROLLBACK";

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client.batch_execute(STORE).unwrap();
    client.batch_execute(HOLE).unwrap();
    (database, client)
}

/// The rows of a query as COPY writes them, without its header (19 bytes) and trailer (2).
fn copied(client: &mut Client, query: &str) -> Vec<u8> {
    let mut copied = Vec::new();
    let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    client
        .copy_out(&copy)
        .unwrap()
        .read_to_end(&mut copied)
        .unwrap();
    copied[19..copied.len() - 2].to_vec()
}

/// The values of a query's only column, joined.
fn packed(client: &mut Client, query: &str) -> Vec<u8> {
    let rows = client.query(query, &[]).unwrap();
    rows.iter()
        .flat_map(|row| row.get::<_, Vec<u8>>(0))
        .collect()
}

fn assert_same(client: &mut Client, plain: &str, call: &str) -> usize {
    let (expected, found) = (copied(client, plain), packed(client, call));
    assert_eq!(expected.len(), found.len(), "{call}");
    assert!(expected == found, "{call}");
    found.len()
}

#[test]
fn a_loaded_stream_is_the_same_packed_and_comes_in_chunks() {
    let (_database, mut client) = store();
    for (stream, schema) in [
        ("a-1", "NULL"),
        ("a-1", "1"),
        ("a-1", "2"),
        ("a-2", "1"),
        ("a-3", "1"),
        ("a-4", "NULL"),
        ("b-1", "NULL"),
        ("b-2", "NULL"),
        ("c-1", "NULL"),
    ] {
        let bytes = assert_same(
            &mut client,
            &format!("SELECT * FROM mire.load_stream('{stream}', {schema})"),
            &format!("SELECT mire.load_stream_packed('{stream}', {schema})"),
        );
        assert_eq!(bytes == 0, stream == "c-1", "{stream}");
    }
    let count = "SELECT count(*) FROM mire.load_stream_packed('a-1')";
    let chunks: i64 = value(&mut client, count);
    assert!(chunks > 1, "400 events are more than 32 KiB");
    // Nobody need take them all.
    let first = "SELECT mire.load_stream_packed('a-1') LIMIT 1";
    assert!(packed(&mut client, first).len() > 32 * 1024);
    assert!(packed(&mut client, "SELECT mire.load_stream_packed(NULL, 1)").is_empty());
}

#[test]
fn loading_is_what_plain_sql_finds() {
    let (_database, mut client) = store();
    for stream in ["a-1", "a-2", "a-3", "a-4", "b-1", "b-2"] {
        let head = "SELECT NULL::bigint, s.version, NULL::uuid, '$stream', s.created_at, jsonb_build_object(
                      'truncated_before', s.truncated_before, 'deleted', s.deleted), NULL::jsonb, 0 AS place
                      FROM mire.stream_heads AS s WHERE s.stream";
        let events = "SELECT e.position, e.version, e.event_id, e.type, e.recorded_at, e.data, e.metadata, e.version
                        FROM mire.events AS e JOIN mire.stream_heads AS s USING (stream_no) WHERE s.stream";
        let expected = copied(
            &mut client,
            &format!(
                "SELECT position, version, event_id, type, recorded_at, data, metadata
                   FROM ({head} = '{stream}' UNION ALL {events} = '{stream}')
                     AS l (position, version, event_id, type, recorded_at, data, metadata, place) ORDER BY place"
            ),
        );
        let load = format!("SELECT mire.load_stream_packed('{stream}')");
        assert!(packed(&mut client, &load) == expected, "{stream}");
    }
}

#[test]
fn pages_of_the_feed_are_the_same_packed() {
    let (_database, mut client) = store();
    for arguments in [
        "0",
        "0, 7",
        "13, 1",
        "0, 1000, '{b}'",
        "0, 1000, '{a,b}', '{closed,large}'",
        "0, 1000, NULL, '{nothing}'",
        "0, 1000, '{nobody}'",
        "0, 1000, NULL, NULL, 1",
        "0, 1000, NULL, NULL, 5000",
        "0, 1000, NULL, NULL, 999999",
        "460, 1000",
    ] {
        assert_same(
            &mut client,
            &format!("SELECT * FROM mire.read_all({arguments})"),
            &format!("SELECT mire.read_all_packed({arguments})"),
        );
    }
    let all = value::<i64>(&mut client, "SELECT count(*) FROM mire.events");
    let read: i64 = value(&mut client, "SELECT count(*) FROM mire.read_all()");
    assert_eq!(read, all);
}

#[test]
fn pages_of_a_subscription_are_the_same_packed_and_move_it_along_in_the_same_way() {
    let (_database, mut client) = store();
    create(&mut client, "s", 1);
    let worker = Partition::acquire(&mut client, "s", 0);
    let fence = worker.fence;
    for arguments in ["7", "1000, 0, 5000", "1000, 0"] {
        assert_same(
            &mut client,
            &format!("SELECT * FROM mire.fetch_events('s', 0, {fence}, {arguments})"),
            &format!("SELECT mire.fetch_events_packed('s', 0, {fence}, {arguments})"),
        );
    }
    let progress = |name: &str| {
        format!(
            "SELECT handed_out || ' ' || checkpoint FROM mire.checkpoints WHERE name = '{name}'"
        )
    };
    let end: i64 = value(&mut client, "SELECT max(position) FROM mire.events");
    let handed_out = format!("{end} 0");
    assert_eq!(value::<String>(&mut client, &progress("s")), handed_out);

    let filtered = "SELECT mire.create_subscription('nothing', categories => '{nobody}')";
    client.batch_execute(filtered).unwrap();
    let fence = Partition::acquire(&mut client, "nothing", 0).fence;
    let fetch = format!("SELECT mire.fetch_events_packed('nothing', 0, {fence})");
    packed(&mut client, &fetch);
    let moved = format!("{end} {end}");
    assert_eq!(value::<String>(&mut client, &progress("nothing")), moved);
}
