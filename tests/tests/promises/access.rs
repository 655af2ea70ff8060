//! Item 9: no role reads or writes what it was not granted, PUBLIC can do nothing, and access is what grant_access says.

use mire_cluster::shared;
use mire_tests::access::{granted, privileges, role};
use mire_tests::session::{append, connect, events, refused, value};

#[test]
fn public_can_do_nothing() {
    let database = shared().fresh_database().unwrap();
    let stranger = role(&database, "stranger", None);
    let mut admin = connect(&database.url);
    append(&mut admin, "s-1", &events(1), Some(0)).unwrap();
    assert_eq!(privileges(&mut admin, &stranger), [""; 0]);
    let mut client = connect(&database.url_as(&stranger));
    for call in [
        "SELECT mire.stream_version('s-1')",
        "SELECT * FROM mire.read_all()",
        "SELECT * FROM mire.streams",
        "SELECT * FROM mire.events",
        "SELECT mire.append('s-1', '[]')",
        "CALL mire.wait_for_events(0, '0')",
        "SELECT mire_internal.head_position()",
        "SELECT nextval('mire.positions')",
        "CREATE TABLE mire.mine ()",
    ] {
        refused(client.simple_query(call), "42501");
    }
}

#[test]
fn each_level_has_exactly_what_the_surface_says() {
    let database = shared().fresh_database().unwrap();
    let mut admin = connect(&database.url);
    for level in ["reader", "writer", "admin"] {
        let role = role(&database, level, Some(level));
        let has = privileges(&mut admin, &role);
        assert_eq!(has, granted(&mut admin, level), "{level}");
        println!("{level}: {} privileges", has.len());
    }
}

#[test]
fn a_reader_reads_and_cannot_write() {
    let database = shared().fresh_database().unwrap();
    append(&mut connect(&database.url), "s-1", &events(2), Some(0)).unwrap();
    let reader = role(&database, "reader", Some("reader"));
    let mut client = connect(&database.url_as(&reader));
    for (call, rows) in [
        ("SELECT * FROM mire.read_stream('s-1')", 2),
        ("SELECT * FROM mire.load_stream('s-1')", 3),
        ("SELECT * FROM mire.read_all()", 2),
        ("SELECT * FROM mire.streams", 1),
        ("SELECT * FROM mire.stats", 1),
        ("SELECT * FROM mire.feed_blockers", 0),
        ("SELECT * FROM mire.lease_status", 0),
        ("SELECT * FROM mire.store_info()", 1),
    ] {
        assert_eq!(client.query(call, &[]).unwrap().len(), rows, "{call}");
    }
    client
        .simple_query("CALL mire.wait_for_events(0, '1 s')")
        .unwrap();
    for call in [
        "mire.append('s-1', '[{\"type\": \"t\", \"data\": 1}]')",
        "mire.append('s-1', '[]', 2)",
        "mire.append_events('s-1', '{t}', '{1}')",
        "mire.append_batch('{s-1}', NULL, '{1}', '{t}', '{1}')",
        "mire.save_snapshot('s-1', 1, 1, '{}')",
        "mire.delete_snapshots('s-1')",
        "mire.acquire_lease('r', 'me', '1 s')",
        "mire.delete_stream('s-1')",
        "mire.grant_access(current_user::text, 'admin')",
        "mire.new_epoch()",
    ] {
        refused(client.query(&format!("SELECT {call}"), &[]), "42501");
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('s-1')"),
        2
    );
}

#[test]
fn a_writer_appends_and_cannot_touch_tables_sequences_or_internals() {
    let database = shared().fresh_database().unwrap();
    let writer = role(&database, "writer", Some("writer"));
    let mut client = connect(&database.url_as(&writer));
    append(&mut client, "s-1", &events(2), Some(0)).unwrap();
    for statement in [
        "SELECT * FROM mire.events",
        "SELECT FROM mire.stream_heads",
        "SELECT * FROM mire.grants",
        "INSERT INTO mire.events SELECT * FROM mire.events",
        "UPDATE mire.events SET data = '1'",
        "DELETE FROM mire.events",
        "TRUNCATE mire.events",
        "UPDATE mire.streams SET version = 9",
        "DELETE FROM mire.lease_status",
        "BEGIN; LOCK TABLE mire.events",
        "COPY mire.events TO STDOUT",
        "SELECT nextval('mire.positions')",
        "SELECT setval('mire.positions', 1)",
        "SELECT last_value FROM mire.positions",
        "SELECT mire_internal.settled_position()",
        "SELECT mire_internal.erase_events(1, 9)",
        "SELECT mire_internal.delete_events(1, 9)",
        "SELECT mire_internal.raise_stream_deleted('x')",
        "SELECT mire.delete_stream('s-1')",
        "SELECT mire.truncate_stream('s-1', 2)",
        "SELECT mire.new_epoch()",
        "SELECT mire.grant_access('postgres', 'reader')",
        "CREATE FUNCTION mire.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE mire.events DISABLE TRIGGER ALL",
        "DROP TABLE mire.events",
        "DROP EXTENSION pg_mire",
        "SET ROLE mire_owner",
        "CREATE TABLE mine (row mire.stream_heads)",
        "CREATE TRIGGER mine BEFORE INSERT ON mire.events EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ] {
        refused(client.simple_query(statement), "42501");
        client.batch_execute("ROLLBACK").unwrap();
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('s-1')"),
        2
    );
}

#[test]
fn nobody_but_a_superuser_lifts_a_limit() {
    let database = shared().fresh_database().unwrap();
    let writer = role(&database, "writer", Some("admin"));
    let mut client = connect(&database.url_as(&writer));
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
    let settings: Vec<String> = client
        .query("SELECT name FROM pg_settings WHERE name LIKE 'mire.%'", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(settings.len() >= 7, "{settings:?}");
    for setting in settings {
        let same = format!("SELECT set_config('{setting}', current_setting('{setting}'), false)");
        refused(client.query(&same, &[]), "42501");
        let own = format!("ALTER ROLE {writer} SET {setting} = 1");
        refused(client.simple_query(&own), "42501");
    }
}
