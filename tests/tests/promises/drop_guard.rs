//! Section 1: a log that holds events is not lost by accident, whatever command and CASCADE would take it along; it can
//! be destroyed on purpose, and an empty one goes without ado.

use mire_cluster::{Cluster, shared};
use mire_tests::session::{append, connect, events, refused, value};

/// Everything that would take mire.events along, and what refuses it.
const ACCIDENTS: [(&str, &str); 13] = [
    ("DROP EXTENSION pg_mire", "55006"),
    ("DROP EXTENSION pg_mire CASCADE", "55006"),
    ("DROP EXTENSION IF EXISTS pg_mire", "55006"),
    ("DROP EXTENSION plpgsql CASCADE", "55006"),
    ("DROP SCHEMA mire CASCADE", "2BP01"),
    ("DROP TABLE mire.events", "2BP01"),
    ("DROP TABLE mire.events CASCADE", "2BP01"),
    ("DROP OWNED BY mire_owner CASCADE", "55006"),
    ("DO $$ BEGIN DROP EXTENSION pg_mire; END $$", "55006"),
    (
        "ALTER EXTENSION pg_mire DROP TABLE mire.events; DROP TABLE mire.events CASCADE",
        "55006",
    ),
    ("BEGIN; DROP EXTENSION pg_mire; COMMIT", "55006"),
    (
        "SET session_replication_role = replica; DROP EXTENSION pg_mire",
        "55006",
    ),
    (
        "SET session_replication_role = replica; DROP EXTENSION plpgsql CASCADE",
        "55006",
    ),
];

#[test]
fn no_drop_takes_a_log_with_events_along() {
    let database = shared().fresh_database().unwrap();
    append(&mut connect(&database.url), "s-1", &events(3), Some(0)).unwrap();
    for (accident, sqlstate) in ACCIDENTS {
        // A session of its own each: the guard arms itself, also in one that has never used the library.
        let mut client = connect(&database.url);
        let said = match client.batch_execute(accident) {
            Ok(()) => panic!("{accident} went through"),
            Err(error) => error,
        };
        let said = said.as_db_error().unwrap();
        // Either the guard or a dependency refuses it; both keep the log.
        assert!(
            [sqlstate, "55006", "2BP01"].contains(&said.code().code()),
            "{accident}: {said:?}"
        );
        let mut client = connect(&database.url);
        assert_eq!(
            value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
            3,
            "{accident}"
        );
        assert_eq!(
            value::<i64>(&mut client, "SELECT mire.stream_version('s-1')"),
            3,
            "{accident}"
        );
    }
}

#[test]
fn the_guards_refusal_says_how_to_go_on() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
    let said = refused(client.batch_execute("DROP EXTENSION pg_mire"), "55006");
    assert!(said.hint().unwrap().contains("mire.allow_drop_with_events"));
}

#[test]
fn a_log_goes_when_the_user_says_so_in_so_many_words() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
    refused(client.batch_execute("DROP EXTENSION pg_mire"), "55006");
    client
        .batch_execute("SET mire.allow_drop_with_events = on; DROP EXTENSION pg_mire")
        .unwrap();
    // The same session starts anew, and is guarded anew.
    client
        .batch_execute("CREATE EXTENSION pg_mire; RESET mire.allow_drop_with_events")
        .unwrap();
    assert_eq!(
        append(&mut client, "s-1", &events(1), Some(0))
            .unwrap()
            .position,
        Some(1)
    );
    refused(client.batch_execute("DROP EXTENSION pg_mire"), "55006");
}

#[test]
fn an_empty_log_goes_without_ado() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("SELECT mire.acquire_lease('r', 'me', '1 s'); DROP EXTENSION pg_mire")
        .unwrap();
    client.batch_execute("CREATE EXTENSION pg_mire").unwrap();
    // Events that were never committed are none.
    let mut open = client.transaction().unwrap();
    append(&mut open, "s-1", &events(1), Some(0)).unwrap();
    open.rollback().unwrap();
    client.batch_execute("DROP EXTENSION pg_mire").unwrap();
}

#[test]
fn an_append_that_is_still_open_when_the_drop_begins_is_not_lost() {
    let database = shared().fresh_database().unwrap();
    let (mut writer, mut dropper) = (connect(&database.url), connect(&database.url));
    let mut open = writer.transaction().unwrap();
    append(&mut open, "s-1", &events(1), Some(0)).unwrap();
    let waiting = mire_tests::session::pid(&mut dropper);
    let dropping = std::thread::spawn(move || dropper.batch_execute("DROP EXTENSION pg_mire"));
    mire_tests::session::wait_until_blocked(&database, waiting);
    open.commit().unwrap();
    refused(dropping.join().unwrap(), "55006");
    assert_eq!(
        value::<i64>(&mut writer, "SELECT count(*) FROM mire.events"),
        1
    );
}

#[test]
fn the_permission_to_drop_cannot_be_left_in_a_configuration_file() {
    let cluster = Cluster::start().unwrap();
    let mut client = connect(&cluster.url("mire"));
    append(&mut client, "s-1", &events(1), Some(0)).unwrap(); // loads the library
    refused(
        client.batch_execute("ALTER SYSTEM SET mire.allow_drop_with_events = on"),
        "55P02",
    );
}

#[test]
fn others_drop_what_is_theirs() {
    let database = shared().fresh_database().unwrap();
    let stranger = format!("{}_stranger", database.name);
    database
        .sql(&format!(
            "CREATE ROLE {stranger} LOGIN; GRANT CREATE ON SCHEMA public TO {stranger}"
        ))
        .unwrap();
    append(&mut connect(&database.url), "s-1", &events(1), Some(0)).unwrap();
    let mut client = connect(&database.url_as(&stranger));
    client
        .batch_execute(
            "CREATE TABLE events (a int); CREATE VIEW v AS SELECT a FROM events; CREATE TEMP TABLE t (a int);
             CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SEQUENCE s; CREATE TYPE y AS (a int);
             DROP TABLE t; DROP VIEW v; DROP TABLE events; DROP FUNCTION f; DROP SEQUENCE s; DROP TYPE y;
             DROP OWNED BY CURRENT_USER",
        )
        .unwrap();
}
