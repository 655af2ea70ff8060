//! A page is bounded by bytes as well as by rows, and one event always comes: whoever keeps a page in memory knows how much.

use mire_cluster::{Database, shared};
use mire_tests::session::{append, connect, events, refused, value};
use mire_tests::subscription::{Partition, create};
use postgres::Client;
use serde_json::{Value, json};

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    create(&mut client, "s", 1);
    (database, client)
}

fn event(data: &Value) -> Value {
    json!([{ "type": "happened", "data": data }])
}

/// Reads with this call (after $1, bytes $2) to the end, page by page: the positions of each.
fn pages(client: &mut Client, call: &str, bytes: i32) -> Vec<Vec<i64>> {
    let (mut after, mut pages) = (0_i64, Vec::new());
    loop {
        let rows = client.query(call, &[&after, &bytes]).unwrap();
        let positions: Vec<i64> = rows.iter().filter_map(|row| row.get(0)).collect();
        if positions.is_empty() {
            return pages;
        }
        after = rows.last().unwrap().get(1);
        pages.push(positions);
    }
}

const READ: &str = "SELECT position, next_position FROM mire.read_all($1, 100, max_bytes => $2)";

#[test]
fn a_page_ends_before_its_bytes_are_exceeded_and_not_before_its_first_event() {
    let (_database, mut client) = store();
    // As text: a string has two quotes.
    for size in [100, 100, 100, 5_000, 100, 100] {
        append(
            &mut client,
            "a-1",
            &event(&json!("x".repeat(size - 2))),
            None,
        )
        .unwrap();
    }
    let worker = Partition::acquire(&mut client, "s", 0);
    let fetch = format!(
        "SELECT position, next_position FROM mire.fetch_events('s', 0, {}, 100, $1, $2)",
        worker.fence
    );
    for call in [READ, &fetch] {
        for (bytes, expected) in [
            (
                1,
                vec![vec![1], vec![2], vec![3], vec![4], vec![5], vec![6]],
            ),
            (
                199,
                vec![vec![1], vec![2], vec![3], vec![4], vec![5], vec![6]],
            ),
            (200, vec![vec![1, 2], vec![3], vec![4], vec![5, 6]]),
            (5_100, vec![vec![1, 2, 3], vec![4, 5], vec![6]]),
            (i32::MAX, vec![vec![1, 2, 3, 4, 5, 6]]),
        ] {
            assert_eq!(pages(&mut client, call, bytes), expected, "{call} {bytes}");
        }
    }
}

/// What is stored is no measure: text is compressed there, and a number's zeros are not even stored.
#[test]
fn bytes_are_counted_as_the_reader_gets_them() {
    let (_database, mut client) = store();
    for data in [
        format!("\"{}\"", "x".repeat(99_998)),
        "1e99999".to_owned(),
        "{}".to_owned(),
    ] {
        let sql = "SELECT mire.append_events('a-1', '{t}', ARRAY[$1::text::jsonb])";
        client.query(sql, &[&data]).unwrap();
    }
    let stored: i64 = value(
        &mut client,
        "SELECT sum(pg_column_size(data)) FROM mire.events",
    );
    assert!(stored < 3_000, "{stored}");
    assert_eq!(
        pages(&mut client, READ, 100_001),
        [vec![1], vec![2], vec![3]]
    );
    assert_eq!(pages(&mut client, READ, 100_002), [vec![1], vec![2, 3]]);
}

#[test]
fn metadata_counts_and_a_worker_that_says_nothing_gets_four_mebibytes() {
    let (_database, mut client) = store();
    // As text: {"x": "…"}.
    let half = json!({ "x": "x".repeat(500_000 - 9) }).to_string();
    let sql = "SELECT mire.append_events('a-1', array_fill('t'::text, ARRAY[7]), array_fill($1::text::jsonb, ARRAY[7]),
                                         array_fill($1::text::jsonb, ARRAY[7]))";
    client.query(sql, &[&half]).unwrap();
    let worker = Partition::acquire(&mut client, "s", 0);
    let page = worker.fetch(&mut client, 1000).unwrap();
    assert_eq!((page.positions(), page.next), (vec![1, 2, 3, 4], 4));
    worker.checkpoint(&mut client, 4).unwrap();
    assert_eq!(
        worker.fetch(&mut client, 1000).unwrap().positions(),
        [5, 6, 7],
        "the next page goes on where this one was cut short"
    );
}

#[test]
fn the_events_of_a_parked_stream_come_in_pages_of_the_same_kind() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(1), None).unwrap();
    for _ in 0..3 {
        append(&mut client, "a-1", &event(&json!("x".repeat(98))), None).unwrap();
    }
    let worker = Partition::acquire(&mut client, "s", 0);
    let end = worker.fetch(&mut client, 99).unwrap().next;
    worker.checkpoint(&mut client, 1).unwrap();
    worker.fails(&mut client, 2, "park").unwrap();
    worker.checkpoint(&mut client, end).unwrap();
    client
        .batch_execute("SELECT mire.retry_parked('s', 'a-1')")
        .unwrap();
    let sql = "SELECT count(*) FROM mire.fetch_parked('s', 0, $1, 99, $2)";
    for (bytes, expected) in [(1, 1), (199, 1), (200, 2), (1_000, 3)] {
        let count: i64 = client
            .query_one(sql, &[&worker.fence, &bytes])
            .unwrap()
            .get(0);
        assert_eq!(count, expected, "{bytes}");
    }
}

#[test]
fn a_bound_below_one_byte_is_refused() {
    let (_database, mut client) = store();
    let fence = Partition::acquire(&mut client, "s", 0).fence;
    for call in [
        "read_all(max_bytes => 0)".to_owned(),
        format!("fetch_events('s', 0, {fence}, max_bytes => 0)"),
        format!("fetch_events('s', 0, {fence}, max_bytes => NULL)"),
        format!("fetch_parked('s', 0, {fence}, max_bytes => -1)"),
    ] {
        let call = format!("SELECT mire.{call}");
        let said = refused(client.simple_query(&call), "22023");
        assert!(said.message().contains("max_bytes"), "{said:?}");
    }
}

/// Pages are weighed without writing the text that they will be read as.
#[test]
fn a_jsonb_weighs_as_many_bytes_as_its_text_has() {
    let (_database, mut client) = store();
    let odd: Vec<String> = value(
        &mut client,
        r#"SELECT coalesce(array_agg(j::text), '{}')
             FROM (SELECT unnest(ARRAY['null', 'true', 'false', '0', '-1.50', '1e300', '1e-20', '"\u0001\b\f\n\r\t\"\\/ä€😀\u007f"',
                                       '""', '[]', '{}', '[[]]', '[{}, []]', '{"a": {}, "b\"": [1, [2, {"c": null}], "x"]}',
                                       '{"": {"": [""]}}', '[1, "two", null, true, false, {"k\u0002": -0.0}]']::jsonb[])
                    UNION ALL SELECT to_jsonb(array_agg(chr(i))) FROM generate_series(1, 300) AS i
                    UNION ALL SELECT to_jsonb(repeat('abcdefgh"', 100000))
                    UNION ALL SELECT jsonb_object_agg('key ' || i, ('1e' || i)::numeric) FROM generate_series(-50, 200) AS i) AS o (j)
            WHERE mire_internal.text_size(j) <> octet_length(j::text)"#,
    );
    assert_eq!(odd, Vec::<String>::new());
}
