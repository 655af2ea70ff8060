//! Item 9: a role's level can be changed and taken away, by admins who are no superusers, at the same time, and survives
//! a dump.

use std::thread;

use mire_cluster::shared;
use mire_tests::access::{granted, privileges, role};
use mire_tests::session::{append, connect, events, refused, value};

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
    assert!(!value::<bool>(
        &mut admin,
        "SELECT mire.revoke_access('mire_owner')"
    ));
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
