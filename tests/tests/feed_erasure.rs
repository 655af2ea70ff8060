//! Promise 3 while streams are erased: a page and where it ended come from one snapshot.

#![allow(clippy::unwrap_used)]

use std::thread;

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, pid, value, wait_until_blocked};
use serde_json::json;

/// Makes scan_end, which runs when a page's rows have been read, wait for an advisory lock of the test's.
const PAUSE_BEFORE_THE_END: &str = "
    ALTER FUNCTION mire_internal.scan_end(bigint, bigint, text[], bigint) RENAME TO scan_end_itself;
    CREATE FUNCTION mire_internal.scan_end(bigint, bigint, text[], bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
    BEGIN
      PERFORM pg_advisory_xact_lock(1);
      RETURN mire_internal.scan_end_itself($1, $2, $3, $4);
    END $$";

#[test]
fn a_stream_erased_while_a_page_is_read_does_not_move_its_end_past_unread_events() {
    let database = shared().fresh_database().unwrap();
    let mut admin = connect(&database.url);
    append(&mut admin, "gone-1", &events(50), None).unwrap();
    append(&mut admin, "kept-1", &events(50), None).unwrap();
    let wanted = json!([{"type": "wanted", "data": {}}]);
    let wanted = append(&mut admin, "kept-1", &wanted, None)
        .unwrap()
        .position;
    admin.batch_execute(PAUSE_BEFORE_THE_END).unwrap();
    admin.execute("SELECT pg_advisory_lock(1)", &[]).unwrap();

    let mut reader = connect(&database.url);
    let reading = pid(&mut reader);
    reader.execute("SET mire.scan_budget = 60", &[]).unwrap();
    let page = thread::spawn(move || {
        let next: i64 = value(
            &mut reader,
            "SELECT next_position FROM mire.read_all(0, 10, types => '{wanted}')",
        );
        (reader, next)
    });
    wait_until_blocked(&database, reading);
    admin
        .execute("SELECT mire.delete_stream('gone-1')", &[])
        .unwrap();
    admin.execute("SELECT pg_advisory_unlock(1)", &[]).unwrap();

    let (mut reader, next) = page.join().unwrap();
    assert_eq!(next, 60, "as far as the budget went in the page's snapshot");
    let found = reader
        .query(
            "SELECT position FROM mire.read_all($1, 10, types => '{wanted}') WHERE position IS NOT NULL",
            &[&next],
        )
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].get::<_, Option<i64>>(0), wanted);
}
