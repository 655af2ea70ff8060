//! Item 9: what must be so before and at CREATE EXTENSION: a dangerous owner role or a schema that somebody made
//! beforehand is refused, and default privileges of the database do not leak into the store.

use mire_cluster::Cluster;
use mire_tests::session::{append, connect, events, refused, value};

#[test]
fn an_owner_role_that_is_more_than_harmless_is_refused() {
    let cluster = Cluster::builder().bare().start().unwrap();
    let mut client = connect(&cluster.url("postgres"));
    client.batch_execute("CREATE ROLE other").unwrap();
    for (make, unmake) in [
        ("CREATE ROLE mire_owner SUPERUSER", "DROP ROLE mire_owner"),
        ("CREATE ROLE mire_owner LOGIN", "DROP ROLE mire_owner"),
        ("CREATE ROLE mire_owner CREATEROLE", "DROP ROLE mire_owner"),
        ("CREATE ROLE mire_owner REPLICATION", "DROP ROLE mire_owner"),
        ("CREATE ROLE mire_owner BYPASSRLS", "DROP ROLE mire_owner"),
        (
            "CREATE ROLE mire_owner; GRANT mire_owner TO other",
            "DROP ROLE mire_owner",
        ),
        (
            "CREATE ROLE mire_owner IN ROLE pg_write_server_files",
            "DROP ROLE mire_owner",
        ),
    ] {
        client.batch_execute(make).unwrap();
        refused(client.batch_execute("CREATE EXTENSION pg_mire"), "0P000");
        let left = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'mire%'";
        assert_eq!(value::<i64>(&mut client, left), 0, "{make}");
        client.batch_execute(unmake).unwrap();
    }
    // A plain one is taken, and the store works.
    client
        .batch_execute("CREATE ROLE mire_owner NOLOGIN; CREATE EXTENSION pg_mire")
        .unwrap();
    append(&mut client, "s-1", &events(1), Some(0)).unwrap();
}

#[test]
fn the_owner_role_is_made_harmless_and_owns_everything() {
    let cluster = Cluster::start().unwrap();
    let mut client = connect(&cluster.url("mire"));
    let risky = "SELECT rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
                   FROM pg_roles WHERE rolname = 'mire_owner'";
    assert!(!value::<bool>(&mut client, risky));
    let strays = "
      SELECT count(*) FROM (
        SELECT relowner FROM pg_class WHERE relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
         UNION ALL
        SELECT proowner FROM pg_proc WHERE pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
         UNION ALL
        SELECT typowner FROM pg_type WHERE typnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
         UNION ALL
        SELECT nspowner FROM pg_namespace WHERE nspname IN ('mire', 'mire_internal')) AS o (owner)
       WHERE owner <> 'mire_owner'::regrole";
    assert_eq!(value::<i64>(&mut client, strays), 0);
    // A second database finds the role there and is content with it.
    cluster.create_database("second").unwrap();
    append(
        &mut connect(&cluster.url("second")),
        "s-1",
        &events(1),
        Some(0),
    )
    .unwrap();
}

#[test]
fn a_schema_that_was_there_before_is_refused() {
    let cluster = Cluster::builder().bare().start().unwrap();
    let mut client = connect(&cluster.url("postgres"));
    client
        .batch_execute("CREATE ROLE attacker LOGIN; GRANT CREATE ON DATABASE postgres TO attacker")
        .unwrap();
    let mut attacker = connect(&cluster.url_as("attacker", "postgres"));
    for schema in ["mire", "mire_internal"] {
        attacker
            .batch_execute(&format!("CREATE SCHEMA {schema}"))
            .unwrap();
        refused(client.batch_execute("CREATE EXTENSION pg_mire"), "42P06");
        attacker
            .batch_execute(&format!("DROP SCHEMA {schema}"))
            .unwrap();
    }
    client.batch_execute("CREATE EXTENSION pg_mire").unwrap();
}

#[test]
fn default_privileges_do_not_leak_into_the_store() {
    let cluster = Cluster::builder().bare().start().unwrap();
    let mut client = connect(&cluster.url("postgres"));
    client.batch_execute("CREATE ROLE snoop LOGIN").unwrap();
    for grantee in ["PUBLIC", "snoop"] {
        for objects in ["TABLES", "SEQUENCES", "FUNCTIONS", "TYPES", "SCHEMAS"] {
            client
                .batch_execute(&format!(
                    "ALTER DEFAULT PRIVILEGES GRANT ALL ON {objects} TO {grantee}"
                ))
                .unwrap();
        }
    }
    client.batch_execute("CREATE EXTENSION pg_mire").unwrap();
    let leaks = "
      SELECT coalesce(string_agg(DISTINCT o.name || ' ' || a.grantee::regrole || ' ' || a.privilege_type, ', '), '')
        FROM (SELECT oid::regclass::text, relacl FROM pg_class
               WHERE relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
               UNION ALL
              SELECT oid::regprocedure::text, proacl FROM pg_proc
               WHERE pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
               UNION ALL
              SELECT oid::regtype::text, typacl FROM pg_type
               WHERE typnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
               UNION ALL
              SELECT nspname, nspacl FROM pg_namespace WHERE nspname IN ('mire', 'mire_internal')) AS o (name, acl)
       CROSS JOIN aclexplode(o.acl) AS a
       WHERE a.grantee <> 'mire_owner'::regrole";
    assert_eq!(value::<String>(&mut client, leaks), "");
    let mut snoop = connect(&cluster.url_as("snoop", "postgres"));
    refused(snoop.simple_query("SELECT * FROM mire.events"), "42501");
    refused(
        snoop.simple_query("SELECT mire.append('s-1', '[]')"),
        "42501",
    );
}

#[test]
fn a_database_that_is_not_utf8_is_refused() {
    let cluster = Cluster::builder().bare().start().unwrap();
    let create = "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    cluster.sql("postgres", create).unwrap();
    refused(
        connect(&cluster.url("latin")).batch_execute("CREATE EXTENSION pg_mire"),
        "0A000",
    );
}
