//! What a page of the feed says: holes and filtered events are passed once, and the feed refuses where it would lie.

use mire_cluster::{Database, shared};
use mire_tests::feed::Reader;
use mire_tests::session::{append, connect, events, refused, value};
use postgres::Client;

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let client = connect(&database.url);
    (database, client)
}

/// Draws positions that nobody will ever see.
fn leave_a_hole(client: &mut Client, size: usize) {
    client.batch_execute("BEGIN").unwrap();
    append(client, "hole-1", &events(size), None).unwrap();
    client.batch_execute("ROLLBACK").unwrap();
}

/// Reads to the end; how many calls it took.
fn calls(client: &mut Client, reader: &mut Reader, types: &[&str]) -> usize {
    let head: i64 = value(client, "SELECT mire.safe_position()");
    for call in 1.. {
        let rows = client
            .query(
                "SELECT position, next_position FROM mire.read_all($1, $2, $3, $4)",
                &[&reader.after, &reader.page, &reader.categories, &types],
            )
            .unwrap();
        let next = rows.last().unwrap().get("next_position");
        assert!(next > reader.after, "the reader does not move at {next}");
        reader.after = next;
        if next == head {
            return call;
        }
    }
    unreachable!()
}

/// Nothing makes an aborted append's positions durable until something beyond them is committed.
#[test]
fn a_hole_at_the_tail_is_passed_once_and_not_before_an_event_beyond_it() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(1), None).unwrap();
    let mut reader = Reader::new(100);
    reader.read(&mut client).unwrap();
    leave_a_hole(&mut client, 10);
    for _ in 0..2 {
        assert_eq!(reader.read(&mut client).unwrap(), 0);
        assert_eq!(reader.after, 1);
    }
    append(&mut client, "a-1", &events(1), None).unwrap();
    assert_eq!(reader.read(&mut client).unwrap(), 1);
    assert_eq!(reader.seen[1].position, 12, "a hole is never filled");
    assert_eq!(reader.after, 12);
}

#[test]
fn a_page_ends_at_its_last_event_or_at_how_far_it_looked() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(4), None).unwrap();
    leave_a_hole(&mut client, 3);
    append(&mut client, "b-1", &events(1), None).unwrap();
    let mut reader = Reader {
        categories: vec!["a".to_owned()],
        ..Reader::new(3)
    };
    reader.read(&mut client).unwrap();
    assert_eq!(reader.after, 3, "full");
    reader.read(&mut client).unwrap();
    assert_eq!(reader.after, 8, "what follows the last match is passed too");
}

/// An event in the middle of a page may be the last one handled: each row says where to go on after itself.
#[test]
fn every_row_says_where_to_go_on_after_it() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(5), None).unwrap();
    for row in client
        .query(
            "SELECT position, next_position FROM mire.read_all(1, 3)",
            &[],
        )
        .unwrap()
    {
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1));
    }
}

/// Without a filter the scan itself has no more rows than that.
#[test]
fn a_filtered_page_holds_no_more_than_max_count() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(5), None).unwrap();
    for count in 1..=3 {
        let filtered =
            "SELECT position, next_position FROM mire.read_all(0, $1, types => '{happened}')";
        let rows = client.query(filtered, &[&count]).unwrap();
        assert_eq!(rows.len(), usize::try_from(count).unwrap());
        assert_eq!(rows.last().unwrap().get::<_, i64>(1), i64::from(count));
    }
}

/// The safe position is not monotonic: a reader may stand above it.
#[test]
fn a_page_never_leads_back() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(3), None).unwrap();
    leave_a_hole(&mut client, 2);
    assert_eq!(value::<i64>(&mut client, "SELECT mire.safe_position()"), 3);
    for after in 3..=5 {
        let next = format!("SELECT next_position FROM mire.read_all({after})");
        assert_eq!(value::<i64>(&mut client, &next), after);
    }
}

#[test]
fn a_type_filter_that_matches_nothing_costs_one_scan_budget_a_call() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(100), None).unwrap();
    client.batch_execute("SET mire.scan_budget = 10").unwrap();
    let mut reader = Reader::new(1000);
    assert_eq!(calls(&mut client, &mut reader, &["never"]), 10);
    reader.after = 95;
    assert_eq!(calls(&mut client, &mut reader, &["never"]), 1);
}

/// A category has an index of its own: the budget counts its events only, and others are passed at no cost.
#[test]
fn a_category_filter_passes_other_categories_events_in_one_call() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(50), None).unwrap();
    append(&mut client, "b-1", &events(20), None).unwrap();
    client.batch_execute("SET mire.scan_budget = 10").unwrap();
    let reader = |categories: &[&str]| Reader {
        categories: categories.iter().map(ToString::to_string).collect(),
        ..Reader::new(1000)
    };
    assert_eq!(calls(&mut client, &mut reader(&["c"]), &[]), 1);
    assert_eq!(calls(&mut client, &mut reader(&["b"]), &[]), 1);
    assert_eq!(calls(&mut client, &mut reader(&["c"]), &["never"]), 1);
    // 20 events, 10 a call; the last of them may be the head, or one more call finds out.
    let of_b = calls(&mut client, &mut reader(&["b"]), &["never"]);
    assert!((2..=3).contains(&of_b), "{of_b}");
    let of_both = calls(&mut client, &mut reader(&["a", "b"]), &["never"]);
    assert!((7..=8).contains(&of_both), "{of_both}");
}

#[test]
fn filtered_pages_hold_what_matches_and_nothing_else() {
    let (_database, mut client) = store();
    client.batch_execute("SET mire.scan_budget = 3").unwrap();
    for round in 0..10 {
        for stream in ["a-1", "b-1", "c-1"] {
            append(&mut client, stream, &events(1 + round % 2), None).unwrap();
        }
        leave_a_hole(&mut client, 1);
    }
    let mut reader = Reader {
        categories: vec!["c".to_owned(), "a".to_owned(), "a".to_owned()],
        ..Reader::new(2)
    };
    let head: i64 = value(&mut client, "SELECT mire.safe_position()");
    while reader.after < head {
        reader.read(&mut client).unwrap();
    }
    reader.assert_saw_everything(&mut client);
    assert_eq!(reader.seen.len(), 30);
}

#[test]
fn in_a_transaction_wide_snapshot_the_feed_refuses_and_append_works() {
    let (_database, mut client) = store();
    for (round, level) in ["REPEATABLE READ", "SERIALIZABLE"].into_iter().enumerate() {
        for call in ["mire.read_all()", "mire.safe_position()"] {
            let begin = format!("BEGIN ISOLATION LEVEL {level}");
            client.batch_execute(&begin).unwrap();
            append(&mut client, "a-1", &events(1), Some(round as i64)).unwrap();
            refused(client.query(&format!("SELECT {call}"), &[]), "MI007");
            client.batch_execute("ROLLBACK").unwrap();
        }
        client
            .batch_execute(&format!("SET default_transaction_isolation = '{level}'"))
            .unwrap();
        append(&mut client, "a-1", &events(1), Some(round as i64)).unwrap();
        refused(client.query("SELECT mire.read_all()", &[]), "MI007");
        refused(client.query("CALL mire.wait_for_events(0)", &[]), "MI007");
        client
            .batch_execute("RESET default_transaction_isolation")
            .unwrap();
    }
    assert_eq!(Reader::new(10).read(&mut client).unwrap(), 2);
}

#[test]
fn in_a_transaction_wide_snapshot_append_raises_40001_where_the_stream_has_moved() {
    let (database, mut client) = store();
    let mut other = connect(&database.url);
    append(&mut client, "a-1", &events(1), None).unwrap();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT mire.stream_version('a-1')");
        client.batch_execute(&begin).unwrap();
        append(&mut other, "a-1", &events(1), None).unwrap();
        refused(append(&mut client, "a-1", &events(1), None), "40001");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

/// Such a position is from another history; going on silently would skip what is appended next.
#[test]
fn a_position_that_was_never_handed_out_is_refused() {
    let (_database, mut client) = store();
    append(&mut client, "a-1", &events(3), None).unwrap();
    let read =
        |client: &mut Client, after: i64| client.query("SELECT mire.read_all($1)", &[&after]);
    assert!(read(&mut client, 3).is_ok());
    refused(read(&mut client, 4), "MI007");
    refused(read(&mut client, -1), "22023");
}

#[test]
fn names_are_those_of_the_store_that_is_there_now() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let sql = "SELECT string_agg(stream, ' ') FROM mire.read_all(0)";
    for stream in ["old-1", "new-1"] {
        append(&mut client, stream, &events(1), None).unwrap();
        assert_eq!(
            value::<String>(&mut client, sql),
            stream,
            "both have the number 1"
        );
        client
            .batch_execute(
                "SET mire.allow_drop_with_events = on; DROP EXTENSION pg_mire; CREATE EXTENSION pg_mire",
            )
            .unwrap();
    }
}
