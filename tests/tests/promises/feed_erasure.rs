//! Promise 3 while streams are erased: a page and where it ended come from one snapshot.

use std::thread;

use mire_cluster::shared;
use mire_tests::session::{append, connect, events, pid, value, wait_until_blocked};
use serde_json::json;

/// Makes a page's scan wait in its middle for an advisory lock of the test's.
const PAUSE_IN_THE_MIDDLE: &str = "
    ALTER FUNCTION mire_internal.page_scan(integer) RENAME TO page_scan_itself;
    CREATE FUNCTION mire_internal.page_scan(categories integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
      SELECT format('SELECT * FROM (%s) AS p WHERE p.position <> 40 OR pg_advisory_xact_lock_shared(1)::text IS NOT NULL',
                    mire_internal.page_scan_itself(categories))
    $$";

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
    admin.batch_execute(PAUSE_IN_THE_MIDDLE).unwrap();
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
