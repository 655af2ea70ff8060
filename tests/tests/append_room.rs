//! Where events lie in their table: each behind the one before, and where pruning has made room, there.
#![allow(clippy::unwrap_used)]

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
