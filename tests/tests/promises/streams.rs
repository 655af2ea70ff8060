//! Section 1: reading one stream: `read_stream`, `load_stream`, `stream_version`, and the views over streams.

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, refused, value};
use postgres::{Client, GenericClient, IsolationLevel};
use serde_json::{Value, json};

/// The versions a page of read_stream has.
fn page(client: &mut impl GenericClient, arguments: &str) -> Vec<i64> {
    let call = format!("SELECT version FROM mire.read_stream({arguments})");
    let rows = client.query(&call, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What load_stream gives: type, version and data of each row.
fn loaded(client: &mut Client, stream: &str, schema: Option<i32>) -> Vec<(String, i64, Value)> {
    let call = "SELECT type, version, data FROM mire.load_stream($1, $2)";
    let rows = client.query(call, &[&stream, &schema]).unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[test]
fn a_stream_reads_forward_and_backward_in_pages() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(10), Some(0)).unwrap();
    append(&mut client, "s-2", &events(3), Some(0)).unwrap();
    append(&mut client, "s-1", &events(2), Some(10)).unwrap();

    for (arguments, versions) in [
        ("'s-1'", (1..=12).collect::<Vec<i64>>()),
        ("'s-1', 0, 4", vec![1, 2, 3, 4]),
        ("'s-1', 4, 4", vec![5, 6, 7, 8]),
        ("'s-1', 11, 4", vec![12]),
        ("'s-1', 12, 4", vec![]),
        ("'s-1', 9223372036854775807, 4", vec![]),
        ("'s-1', backward => true", (1..=12).rev().collect()),
        ("'s-1', 0, 3, true", vec![12, 11, 10]),
        ("'s-1', 10, 3, true", vec![9, 8, 7]),
        ("'s-1', 2, 3, true", vec![1]),
        ("'s-1', 1, 3, true", vec![]),
        ("'s-1', 9223372036854775807, 1, true", vec![12]),
        ("'s-1', 0, 2147483647", (1..=12).collect()),
        ("'s-2'", vec![1, 2, 3]),
        ("'s-3'", vec![]),
        ("'s-3', 0, 3, true", vec![]),
        ("''", vec![]),
        ("NULL", vec![]),
    ] {
        assert_eq!(page(&mut client, arguments), versions, "{arguments}");
    }
    for arguments in [
        "'s-1', -1",
        "'s-1', NULL",
        "'s-1', 0, 0",
        "'s-1', 0, -1",
        "'s-1', 0, NULL",
    ] {
        let call = format!("SELECT * FROM mire.read_stream({arguments})");
        refused(client.query(&call, &[]), "22023");
    }
}

#[test]
fn an_event_comes_back_as_it_was_sent() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let sent = json!([{
        "type": "Größe ⚙ 'quoted\" \\ back",
        "data": {"big": 12345678901234567890u64, "text": "😀 \u{1}\u{2028}", "deep": [[[null, true, 1.5e300]]]},
        "metadata": {"actor": "ann", "schema": 3},
        "id": "018f4f5e-0000-7000-8000-000000000001"
    }]);
    append(&mut client, "exact-1", &sent, Some(0)).unwrap();
    let from_stream = client
        .query_one("SELECT * FROM mire.read_stream('exact-1')", &[])
        .unwrap();
    let from_feed = client
        .query_one("SELECT * FROM mire.read_all()", &[])
        .unwrap();
    for row in [&from_stream, &from_feed] {
        assert_eq!(row.get::<_, &str>("type"), sent[0]["type"]);
        assert_eq!(row.get::<_, Value>("data"), sent[0]["data"]);
        assert_eq!(row.get::<_, Value>("metadata"), sent[0]["metadata"]);
        assert_eq!(
            row.get::<_, uuid::Uuid>("event_id").to_string(),
            sent[0]["id"]
        );
        assert_eq!(row.get::<_, i64>("position"), 1);
    }
    assert_eq!(from_feed.get::<_, &str>("stream"), "exact-1");
}

#[test]
fn a_transaction_reads_its_own_appends() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for level in [IsolationLevel::ReadCommitted, IsolationLevel::Serializable] {
        let mut open = client
            .build_transaction()
            .isolation_level(level)
            .start()
            .unwrap();
        append(&mut open, "own-1", &events(3), Some(0)).unwrap();
        assert_eq!(page(&mut open, "'own-1'"), [1, 2, 3]);
        assert_eq!(
            value::<i64>(&mut open, "SELECT mire.stream_version('own-1')"),
            3
        );
        assert_eq!(
            value::<i64>(&mut open, "SELECT count(*) FROM mire.load_stream('own-1')"),
            4
        );
        open.rollback().unwrap();
        assert_eq!(page(&mut client, "'own-1'"), [0; 0]);
    }
}

#[test]
fn loading_gives_the_stream_then_its_snapshot_then_the_tail() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(5), Some(0)).unwrap();
    assert!(loaded(&mut client, "s-2", None).is_empty());
    assert!(loaded(&mut client, "s-2", Some(1)).is_empty());

    let stream = |version| {
        (
            "$stream".to_owned(),
            version,
            json!({"truncated_before": 1, "deleted": false}),
        )
    };
    let event = |version: i64| ("happened".to_owned(), version, json!({"n": version}));
    let whole: Vec<_> = std::iter::once(stream(5))
        .chain((1..=5).map(event))
        .collect();
    assert_eq!(loaded(&mut client, "s-1", None), whole);
    assert_eq!(loaded(&mut client, "s-1", Some(7)), whole);

    client
        .execute(
            "SELECT mire.save_snapshot('s-1', 3, 7, '{\"sum\": 6}')",
            &[],
        )
        .unwrap();
    let snapshot = |version, state| ("$snapshot".to_owned(), version, state);
    let tail = vec![
        stream(5),
        snapshot(3, json!({"sum": 6})),
        event(4),
        event(5),
    ];
    assert_eq!(loaded(&mut client, "s-1", Some(7)), tail);
    assert_eq!(
        loaded(&mut client, "s-1", Some(6)),
        whole,
        "another schema's snapshot is not usable"
    );
    assert_eq!(loaded(&mut client, "s-1", None), whole);

    client
        .execute("SELECT mire.save_snapshot('s-1', 5, 7, 'null')", &[])
        .unwrap();
    assert_eq!(
        loaded(&mut client, "s-1", Some(7)),
        [stream(5), snapshot(5, json!(null))]
    );
}

#[test]
fn loading_is_one_picture_while_others_append() {
    let database = shared().fresh_database().unwrap();
    let (mut writer, mut reader) = (connect(&database.url), connect(&database.url));
    let mut torn = 0;
    let mut loads = 0;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for number in 0..150i64 {
                append(&mut writer, "s-1", &events(2), None).unwrap();
                if number % 5 == 0 {
                    let save = "SELECT mire.save_snapshot('s-1', $1, 1, '{}')";
                    writer.execute(save, &[&(2 * number + 1)]).unwrap();
                }
            }
        });
        while !writing.is_finished() {
            let rows = loaded(&mut reader, "s-1", Some(1));
            let Some((_, head, _)) = rows.first() else {
                continue;
            };
            // After the header come consecutive versions up to the header's own.
            let versions: Vec<i64> = rows[1..].iter().map(|row| row.1).collect();
            let whole = versions.windows(2).all(|pair| pair[1] == pair[0] + 1)
                && versions.last() == Some(head);
            torn += usize::from(!whole);
            loads += 1;
        }
    });
    assert_eq!(torn, 0, "of {loads} loads");
    println!("{loads} loads during 150 appends, none torn");
}

#[test]
fn the_view_of_streams_has_one_row_for_each() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for (stream, count) in [("order-7-b", 2), ("plain", 1), ("-odd", 1), ("gone-1", 3)] {
        append(&mut client, stream, &events(count), Some(0)).unwrap();
    }
    append(&mut client, "never-1", &json!([]), Some(0)).unwrap();
    client
        .execute("SELECT mire.delete_stream('gone-1')", &[])
        .unwrap();
    client
        .execute("SELECT mire.truncate_stream('order-7-b', 2)", &[])
        .unwrap();
    let rows = client
        .query(
            "SELECT * FROM mire.streams ORDER BY stream COLLATE \"C\"",
            &[],
        )
        .unwrap();
    let seen: Vec<(String, String, i64, i64, bool)> = rows
        .iter()
        .map(|row| {
            (
                row.get("stream"),
                row.get("category"),
                row.get("version"),
                row.get("truncated_before"),
                row.get("deleted"),
            )
        })
        .collect();
    let row = |stream: &str, category: &str, version, before, deleted| {
        (
            stream.to_owned(),
            category.to_owned(),
            version,
            before,
            deleted,
        )
    };
    assert_eq!(
        seen,
        [
            row("-odd", "", 1, 1, false),
            row("gone-1", "gone", 4, 4, true),
            row("order-7-b", "order", 3, 2, false),
            row("plain", "plain", 1, 1, false),
        ]
    );
}

#[test]
fn the_views_of_leases_and_stats_say_what_is_so() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    client.batch_execute("SELECT mire.acquire_lease('a', 'me', '1 h'), mire.acquire_lease('b', 'you', '1 h');
                          SELECT mire.release_lease('b', fence) FROM mire.lease_status WHERE resource = 'b'").unwrap();
    let leases = "SELECT string_agg(concat_ws(' ', resource, holder, held), ', ' ORDER BY resource) FROM mire.lease_status";
    assert_eq!(value::<String>(&mut client, leases), "a me t, b f");

    let mut other = connect(&database.url);
    let mut open = other.transaction().unwrap();
    append(&mut open, "s-2", &events(1), Some(0)).unwrap();
    let row = client.query_one("SELECT * FROM mire.stats", &[]).unwrap();
    assert_eq!(
        (
            row.get::<_, i64>("last_position"),
            row.get::<_, i64>("open_appends")
        ),
        (4, 1)
    );
    assert!(row.get::<_, i64>("events_bytes") > 0);
    let same = "SELECT s.store_id = i.store_id AND s.epoch = i.epoch AND s.extension_version = i.extension_version
                  FROM mire.stats AS s, mire.store_info() AS i";
    assert!(value::<bool>(&mut client, same));
    open.rollback().unwrap();
    client
        .batch_execute("ANALYZE mire.events, mire.stream_heads")
        .unwrap();
    let estimates =
        "SELECT events_estimate = 3 AND streams_estimate = 1 AND open_appends = 0 FROM mire.stats";
    assert!(value::<bool>(&mut client, estimates));
}
