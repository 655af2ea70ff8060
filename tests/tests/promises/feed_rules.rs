//! The rules of "in-flight positions are locks", one by one: who holds the feed back, until when, and with how much.

use mire_cluster::{Database, shared};
use mire_tests::feed::Reader;
use mire_tests::session::{append, connect, events, pid, refused, value, wait_until};
use postgres::Client;

const NOTHING: [i64; 0] = [];

/// A database with one session that appends strangely, one that appends plainly, and one that reads.
struct Store {
    database: Database<'static>,
    odd: Client,
    plain: Client,
    reader: Client,
}

impl Store {
    fn new() -> Self {
        let database = shared().fresh_database().unwrap();
        let [odd, plain, reader] = [(); 3].map(|()| connect(&database.url));
        Self {
            database,
            odd,
            plain,
            reader,
        }
    }

    /// The odd session's append, inside of whatever it has open.
    fn append(&mut self, stream: &str) -> i64 {
        let appended = append(&mut self.odd, stream, &events(1), None).unwrap();
        appended.position.unwrap()
    }

    /// Another session's append, committed.
    fn append_plainly(&mut self) -> i64 {
        let appended = append(&mut self.plain, "plain-1", &events(1), None).unwrap();
        appended.position.unwrap()
    }

    fn feed(&mut self) -> Vec<i64> {
        let mut reader = Reader::new(20_000);
        reader.read(&mut self.reader).unwrap();
        reader.seen.iter().map(|event| event.position).collect()
    }

    /// The feed stops before what is open; once that commits, everything comes in order.
    fn assert_held_back_until_commit(&mut self, open: &[i64]) {
        let later = self.append_plainly();
        assert!(open.iter().all(|position| *position < later));
        assert_eq!(self.feed(), NOTHING, "the feed is not held back");
        self.odd.batch_execute("COMMIT").unwrap();
        assert_eq!(self.feed(), [open, &[later]].concat());
    }
}

#[test]
fn a_savepoint_that_is_rolled_back_takes_its_hold_with_it() {
    let mut store = Store::new();
    store.odd.batch_execute("BEGIN; SAVEPOINT a").unwrap();
    store.append("odd-1");
    let later = store.append_plainly();
    assert_eq!(store.feed(), NOTHING);
    store.odd.batch_execute("ROLLBACK TO a").unwrap();
    assert_eq!(store.feed(), [later]);
}

#[test]
fn an_append_after_a_rolled_back_savepoint_holds_the_feed_back_again() {
    let mut store = Store::new();
    store.odd.batch_execute("BEGIN; SAVEPOINT a").unwrap();
    store.append("odd-1");
    store.odd.batch_execute("ROLLBACK TO a").unwrap();
    let open = store.append("odd-2");
    store.assert_held_back_until_commit(&[open]);
}

#[test]
fn an_append_before_a_rolled_back_savepoint_still_holds_the_feed_back() {
    let mut store = Store::new();
    store.odd.batch_execute("BEGIN").unwrap();
    let open = store.append("odd-1");
    store.odd.batch_execute("SAVEPOINT a").unwrap();
    store.append("odd-2");
    store.odd.batch_execute("ROLLBACK TO a").unwrap();
    store.assert_held_back_until_commit(&[open]);
}

#[test]
fn a_released_savepoint_leaves_its_hold_to_the_transaction() {
    let mut store = Store::new();
    store
        .odd
        .batch_execute("BEGIN; SAVEPOINT a; SAVEPOINT b")
        .unwrap();
    let open = store.append("odd-1");
    store
        .odd
        .batch_execute("RELEASE b; RELEASE a; SAVEPOINT c; ROLLBACK TO c")
        .unwrap();
    store.assert_held_back_until_commit(&[open]);
}

/// A failing portal gives back what it owns. The rows that it wrote before the savepoint stay, and so must the lock.
#[test]
fn a_cursor_that_fails_inside_a_savepoint_keeps_the_feed_held_back() {
    let mut store = Store::new();
    store.odd.batch_execute(CURSOR).unwrap();
    let open = store.odd.query_one("FETCH c", &[]).unwrap().get("position");
    store.odd.batch_execute("SAVEPOINT a").unwrap();
    refused(store.odd.query("FETCH c", &[]), "22012");
    store.odd.batch_execute("ROLLBACK TO a").unwrap();
    store.assert_held_back_until_commit(&[open]);
}

#[test]
fn a_closed_cursor_keeps_the_feed_held_back() {
    let mut store = Store::new();
    store.odd.batch_execute(CURSOR).unwrap();
    let open = store.odd.query_one("FETCH c", &[]).unwrap().get("position");
    store.odd.batch_execute("CLOSE c").unwrap();
    store.assert_held_back_until_commit(&[open]);
}

const CURSOR: &str = r#"BEGIN;
DECLARE c NO SCROLL CURSOR FOR
  SELECT a.position, 1 / (2 - i)
    FROM generate_series(1, 3) AS i CROSS JOIN LATERAL mire.append('odd-1', '[{"type": "t", "data": 1}]') AS a"#;

#[test]
fn a_function_that_appends_several_times_is_held_back_as_a_whole() {
    let mut store = Store::new();
    store
        .odd
        .batch_execute(
            r#"CREATE FUNCTION several() RETURNS bigint[] LANGUAGE plpgsql AS $$
               DECLARE
                 positions bigint[] := '{}';
               BEGIN
                 FOR i IN 1..5 LOOP
                   BEGIN
                     positions := positions || (mire.append('odd-' || i, '[{"type": "t", "data": 1}]')).position;
                     PERFORM mire.append('odd-' || i, '[{"type": "undone", "data": 1}]');
                     PERFORM 1 / 0;
                   EXCEPTION WHEN division_by_zero THEN
                     positions[i] := (mire.append('odd-' || i, '[{"type": "t", "data": 1}]')).position;
                   END;
                 END LOOP;
                 RETURN positions;
               END $$;
               BEGIN"#,
        )
        .unwrap();
    let open: Vec<i64> = value(&mut store.odd, "SELECT several()");
    assert_eq!(open.len(), 5);
    store.assert_held_back_until_commit(&open);
}

/// Neither order of transaction ids against order of positions loses or reorders anything.
#[test]
fn a_transaction_id_from_long_before_the_append_does_not_matter() {
    let mut store = Store::new();
    store
        .odd
        .batch_execute("BEGIN; SELECT pg_current_xact_id()")
        .unwrap();
    let before = store.append_plainly();
    assert_eq!(store.feed(), [before], "an xid alone holds nobody back");
    let open = store.append("odd-1");
    let after = store.append_plainly();
    assert_eq!(store.feed(), [before]);
    store.odd.batch_execute("COMMIT").unwrap();
    assert_eq!(store.feed(), [before, open, after]);
}

#[test]
fn ten_thousand_appends_in_one_transaction_hold_one_lock() {
    let mut store = Store::new();
    let odd = pid(&mut store.odd);
    store
        .odd
        .batch_execute(
            r#"BEGIN;
               DO $$
               BEGIN
                 FOR i IN 1..10000 LOOP
                   PERFORM mire.append_events('odd-' || i % 50, '{t}', '{1}');
                 END LOOP;
                 FOR i IN 1..500 LOOP
                   BEGIN
                     PERFORM mire.append_events('odd-1', '{undone}', '{1}');
                     PERFORM 1 / (i % 2);
                   EXCEPTION WHEN division_by_zero THEN
                     NULL;
                   END;
                 END LOOP;
               END $$"#,
        )
        .unwrap();
    let of_ours: i64 = value(
        &mut store.plain,
        &format!("SELECT count(*) FROM pg_locks WHERE pid = {odd} AND locktype = 'userlock'"),
    );
    assert_eq!(of_ours, 1);
    let after_first: i64 = value(
        &mut store.plain,
        "SELECT holds_back_after FROM mire.feed_blockers",
    );
    assert_eq!(after_first, 0, "the bound must be below the first position");
    assert_eq!(store.feed(), NOTHING);
    store.odd.batch_execute("COMMIT").unwrap();
    assert_eq!(store.feed().len(), 10_250);
}

#[test]
fn two_databases_of_one_cluster_do_not_hold_each_other_back() {
    let (mut one, mut two) = (Store::new(), Store::new());
    one.odd.batch_execute("BEGIN").unwrap();
    one.append("odd-1");
    let position = two.append_plainly();
    assert_eq!(two.feed(), [position]);
    let blockers = "SELECT count(*) FROM mire.feed_blockers";
    assert_eq!(value::<i64>(&mut one.reader, blockers), 1);
    assert_eq!(value::<i64>(&mut two.reader, blockers), 0);
}

#[test]
fn the_appending_transaction_sees_its_events_in_their_stream_and_not_in_the_feed() {
    let mut store = Store::new();
    store.odd.batch_execute("BEGIN").unwrap();
    store.append("odd-1");
    store.append("odd-1");
    let (odd, mut reader) = (&mut store.odd, Reader::new(100));
    assert_eq!(reader.read(odd).unwrap(), 0);
    assert_eq!(reader.after, 0);
    let in_stream = "SELECT count(*) FROM mire.read_stream('odd-1')";
    assert_eq!(value::<i64>(odd, in_stream), 2);
    odd.batch_execute("COMMIT").unwrap();
    assert_eq!(reader.read(odd).unwrap(), 2);
}

#[test]
fn a_users_advisory_locks_cannot_meet_the_in_flight_locks() {
    let mut store = Store::new();
    store.odd.batch_execute("BEGIN").unwrap();
    store.append("odd-1");
    // Every advisory lock whose key could look like the one that is held now, or like the next one.
    for bound in [0, 1] {
        for key in [
            format!("{bound}"),
            format!("0, {bound}"),
            format!("{bound}, 19817"),
            "19817".to_owned(),
        ] {
            let lock = format!("SELECT pg_try_advisory_lock({key})");
            assert!(value::<bool>(&mut store.reader, &lock), "{lock}");
        }
    }
    store.odd.batch_execute("COMMIT").unwrap();
    let later = store.append_plainly();
    assert_eq!(store.feed(), [1, later]);
    store
        .plain
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
}

/// DISCARD ALL and pg_advisory_unlock_all release user locks; neither may release that of an open append.
#[test]
fn a_session_cannot_shed_its_hold_on_the_feed_before_it_commits() {
    let mut store = Store::new();
    store.odd.batch_execute("BEGIN").unwrap();
    let open = store.append("odd-1");
    store
        .odd
        .batch_execute(
            "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD SEQUENCES; CLOSE ALL",
        )
        .unwrap();
    store.assert_held_back_until_commit(&[open]);
    let in_one_message = store
        .odd
        .batch_execute(r#"SELECT mire.append('odd-1', '[{"type": "t", "data": 1}]'); DISCARD ALL"#);
    refused(in_one_message, "25001");
}

#[test]
fn a_sequence_that_caches_positions_is_refused_at_every_append() {
    let mut store = Store::new();
    let first = store.append_plainly();
    let cached = "ALTER SEQUENCE mire.positions CACHE 20";
    store.reader.batch_execute(cached).unwrap();
    refused(
        append(&mut store.plain, "plain-1", &events(1), None),
        "55000",
    );
    store
        .reader
        .batch_execute("ALTER SEQUENCE mire.positions CACHE 1")
        .unwrap();
    let second = store.append_plainly();
    assert_eq!(store.feed(), [first, second]);
}

/// Restored over a live store, the sequence would fill holes that readers have passed.
#[test]
fn a_sequence_that_was_set_back_is_refused_until_a_new_epoch() {
    let mut store = Store::new();
    for _ in 0..5 {
        store.append_plainly();
    }
    store
        .reader
        .batch_execute("SELECT setval('mire.positions', 3)")
        .unwrap();
    refused(
        append(&mut store.plain, "plain-1", &events(1), None),
        "55000",
    );
    store
        .reader
        .batch_execute("SELECT mire.new_epoch()")
        .unwrap();
    let position = store.append_plainly();
    assert!(position > 1_000_000_000_000, "{position}");
    assert_eq!(store.feed(), [1, 2, 3, 4, 5, position]);
}

/// A field of a lock's tag has 32 bits; after a new epoch positions need more.
#[test]
fn an_open_append_beyond_32_bits_holds_back_what_follows_and_nothing_else() {
    let mut store = Store::new();
    store
        .reader
        .batch_execute("SELECT mire.new_epoch()")
        .unwrap();
    let before = store.append_plainly();
    assert!(before > i64::from(u32::MAX), "{before}");
    store.odd.batch_execute("BEGIN").unwrap();
    let open = store.append("odd-1");
    let later = store.append_plainly();
    assert_eq!(store.feed(), [before]);
    store.odd.batch_execute("COMMIT").unwrap();
    assert_eq!(store.feed(), [before, open, later]);
}

#[test]
fn an_abandoned_append_ends_by_itself_and_the_feed_goes_on() {
    let mut store = Store::new();
    shared()
        .expect_in_log("terminating connection due to idle-in-transaction timeout")
        .unwrap();
    let timeout = format!(
        "ALTER DATABASE {} SET mire.idle_append_timeout = '200ms'",
        store.database.name
    );
    store.reader.batch_execute(&timeout).unwrap();
    store.odd = connect(&store.database.url);
    store.odd.batch_execute("BEGIN").unwrap();
    let abandoned = store.append("odd-1");
    let later = store.append_plainly();
    assert_eq!(store.feed(), NOTHING);
    wait_until("the feed goes on", || store.feed() == [later]);
    assert!(abandoned < later);
    assert!(store.odd.batch_execute("COMMIT").is_err());
}
