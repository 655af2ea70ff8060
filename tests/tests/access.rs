//! Item 9: no role reads or writes what it was not granted, PUBLIC can do nothing, and access is what grant_access says.
#![allow(clippy::unwrap_used)]

use std::thread;

use mire_cluster::{Database, shared};
use mire_tests::session::{append, connect, events, refused, value};
use postgres::{Client, GenericClient};

/// A role of this test's own, with a level or none.
fn role(database: &Database<'_>, name: &str, level: Option<&str>) -> String {
    let role = format!("{}_{name}", database.name);
    database.sql(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    if let Some(level) = level {
        database
            .sql(&format!("SELECT mire.grant_access('{role}', '{level}')"))
            .unwrap();
    }
    role
}

/// Every privilege that a role has on anything in the two schemas, as "kind name privilege".
fn privileges(client: &mut impl GenericClient, role: &str) -> Vec<String> {
    let query = "
      WITH ours AS (SELECT oid, nspname FROM pg_namespace WHERE nspname IN ('mire', 'mire_internal'))
      SELECT format('schema %s %s', n.nspname, p) FROM ours AS n, unnest('{USAGE,CREATE}'::text[]) AS p
       WHERE has_schema_privilege($1, n.oid, p)
       UNION ALL
      SELECT format('routine %s EXECUTE', f.oid::regprocedure) FROM pg_proc AS f
       WHERE f.pronamespace IN (SELECT oid FROM ours) AND has_function_privilege($1, f.oid, 'EXECUTE')
       UNION ALL
      SELECT format('relation %s %s', c.oid::regclass, p)
        FROM pg_class AS c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p
       WHERE c.relnamespace IN (SELECT oid FROM ours) AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
         AND (has_table_privilege($1, c.oid, p)
              OR p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege($1, c.oid, p))
       UNION ALL
      SELECT format('sequence %s %s', c.oid::regclass, p) FROM pg_class AS c, unnest('{USAGE,SELECT,UPDATE}'::text[]) AS p
       WHERE c.relnamespace IN (SELECT oid FROM ours) AND c.relkind = 'S' AND has_sequence_privilege($1, c.oid, p)
       UNION ALL
      SELECT format('type %s USAGE', t.oid::regtype) FROM pg_type AS t
       WHERE t.typnamespace IN (SELECT oid FROM ours) AND t.typelem = 0 AND has_type_privilege($1, t.oid, 'USAGE')
       ORDER BY 1";
    let rows = client.query(query, &[&role]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What the surface says a level may do.
fn granted(client: &mut Client, level: &str) -> Vec<String> {
    let query = "
      SELECT CASE s.kind
               WHEN 'ROUTINE' THEN format('routine %s EXECUTE', ('mire.' || s.name)::regproc::oid::regprocedure)
               WHEN 'TABLE' THEN format('relation mire.%s SELECT', s.name)
               WHEN 'TYPE' THEN format('type mire.%s USAGE', s.name)
               ELSE 'unknown kind ' || s.kind
             END
        FROM mire_internal.surface() AS s
       WHERE s.level = ANY (mire_internal.levels_of($1))
       UNION ALL
      SELECT 'schema mire USAGE'
       ORDER BY 1";
    let rows = client.query(query, &[&level]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

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

#[test]
fn a_level_can_be_raised_lowered_and_taken_away() {
    let database = shared().fresh_database().unwrap();
    let mut admin = connect(&database.url);
    let role = role(&database, "changing", None);
    for level in ["writer", "admin", "reader", "reader", "admin", "writer"] {
        admin
            .execute("SELECT mire.grant_access($1, $2)", &[&role, &level])
            .unwrap();
        assert_eq!(
            privileges(&mut admin, &role),
            granted(&mut admin, level),
            "{level}"
        );
        let remembered = format!("SELECT level FROM mire.grants WHERE role = '{role}'");
        assert_eq!(value::<String>(&mut admin, &remembered), level);
    }
    refused(admin.simple_query(&format!("DROP ROLE {role}")), "2BP01");
    let revoke = format!("SELECT mire.revoke_access('{role}')");
    assert!(value::<bool>(&mut admin, &revoke));
    assert!(!value::<bool>(&mut admin, &revoke));
    assert_eq!(privileges(&mut admin, &role), [""; 0]);
    admin.simple_query(&format!("DROP ROLE {role}")).unwrap();
    assert_eq!(
        value::<i64>(&mut admin, "SELECT count(*) FROM mire.grants"),
        0
    );

    for (arguments, sqlstate) in [
        ("'nobody at all', 'reader'", "42704"),
        ("'public', 'reader'", "42704"),
        ("NULL, 'reader'", "42704"),
        ("'postgres', 'owner'", "22023"),
        ("'postgres', NULL", "22023"),
        ("'postgres', 'Reader'", "22023"),
        ("'mire_owner', 'reader'", "22023"),
    ] {
        refused(
            admin.query(&format!("SELECT mire.grant_access({arguments})"), &[]),
            sqlstate,
        );
    }
    refused(
        admin.query("SELECT mire.revoke_access('mire_owner')", &[]),
        "42501",
    );
    append(&mut admin, "s-1", &events(1), Some(0)).unwrap();
}

#[test]
fn an_admin_who_is_no_superuser_grants_and_erases() {
    let database = shared().fresh_database().unwrap();
    let boss = role(&database, "boss", Some("admin"));
    let odd = format!("{} \"quoted' role", database.name);
    database
        .sql(&format!(
            "CREATE ROLE \"{}\" LOGIN",
            odd.replace('"', "\"\"")
        ))
        .unwrap();
    let mut client = connect(&database.url_as(&boss));
    append(&mut client, "s-1", &events(2), Some(0)).unwrap();
    client
        .execute("SELECT mire.grant_access($1, 'writer')", &[&odd])
        .unwrap();
    let mut observer = connect(&database.url);
    assert_eq!(
        privileges(&mut observer, &odd),
        granted(&mut observer, "writer")
    );
    client
        .execute("SELECT mire.truncate_stream('s-1', 2)", &[])
        .unwrap();
    client
        .execute("SELECT mire.delete_stream('s-1')", &[])
        .unwrap();
    client.execute("SELECT mire.new_epoch()", &[]).unwrap();
    client
        .execute("SELECT mire.revoke_access($1)", &[&odd])
        .unwrap();
    assert_eq!(privileges(&mut observer, &odd), [""; 0]);
}

#[test]
fn admins_who_grant_at_the_same_time_do_not_trip_over_each_other() {
    const ADMINS: usize = 6;
    let database = shared().fresh_database().unwrap();
    let roles: Vec<String> = (0..ADMINS)
        .map(|n| role(&database, &format!("r{n}"), None))
        .collect();
    thread::scope(|scope| {
        for role in &roles {
            let mut client = connect(&database.url);
            scope.spawn(move || {
                for level in ["reader", "writer", "admin", "writer"] {
                    client
                        .execute("SELECT mire.grant_access($1, $2)", &[role, &level])
                        .unwrap();
                }
            });
        }
    });
    let mut admin = connect(&database.url);
    for role in &roles {
        assert_eq!(privileges(&mut admin, role), granted(&mut admin, "writer"));
    }
}

#[test]
fn grants_are_there_again_in_a_restored_dump() {
    let database = shared().fresh_database().unwrap();
    let writer = role(&database, "writer", Some("writer"));
    append(
        &mut connect(&database.url_as(&writer)),
        "s-1",
        &events(2),
        Some(0),
    )
    .unwrap();
    let copy = format!("{}_copy", database.name);
    let dump = shared()
        .command("pg_dump")
        .arg(&database.name)
        .output()
        .unwrap();
    assert!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let script = std::env::temp_dir().join(format!("{copy}.sql"));
    std::fs::write(&script, &dump.stdout).unwrap();
    shared()
        .sql("postgres", &format!("CREATE DATABASE {copy}"))
        .unwrap();
    let restore = shared()
        .command("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &copy, "-f"])
        .arg(&script)
        .output()
        .unwrap();
    assert!(
        restore.status.success(),
        "{}",
        String::from_utf8_lossy(&restore.stderr)
    );
    std::fs::remove_file(script).unwrap();

    let mut client = connect(&shared().url_as(&writer, &copy));
    assert_eq!(
        append(&mut client, "s-1", &events(1), Some(2))
            .unwrap()
            .version,
        3
    );
    refused(client.query("SELECT * FROM mire.events", &[]), "42501");
    let mut admin = connect(&shared().url(&copy));
    assert_eq!(
        privileges(&mut admin, &writer),
        granted(&mut admin, "writer")
    );
    assert!(value::<bool>(
        &mut admin,
        &format!("SELECT mire.revoke_access('{writer}')")
    ));
    assert_eq!(privileges(&mut admin, &writer), [""; 0]);
    drop((client, admin));
    shared().drop_database(&copy).unwrap();
}
