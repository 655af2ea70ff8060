//! Item 9: a hostile schema, function, operator, type or temporary table cannot hijack a definer function or the
//! installation, and nobody rewrites history, the owner neither.

use mire_cluster::{Cluster, shared};
use mire_tests::session::{append, connect, events, refused, value};
use postgres::Client;

/// Functions and operators that match better than Postgres's own wherever the search path lets them.
const TRAPS: &str = r"
  CREATE FUNCTION trap() RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION USING ERRCODE = 'TRAP1', MESSAGE = pg_catalog.concat('trapped as ', current_user); END $$;
  CREATE FUNCTION trap_bool() RETURNS bool LANGUAGE sql AS 'SELECT trap() IS NULL';
  CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION format(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION format(text, integer, bigint) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION format(text, text, text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION format(text, text, text, text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION concat_ws(text, text, text, text, text, text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION split_part(text, text, integer) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT trap()::bigint';
  CREATE FUNCTION cardinality(text[]) RETURNS integer LANGUAGE sql AS 'SELECT trap()::integer';
  CREATE FUNCTION octet_length(text) RETURNS integer LANGUAGE sql AS 'SELECT trap()::integer';
  CREATE FUNCTION starts_with(text, text) RETURNS bool LANGUAGE sql AS 'SELECT trap_bool()';
  CREATE FUNCTION jsonb_typeof(jsonb) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT trap_bool()';
  CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT trap()::timestamptz';
  CREATE FUNCTION greatest_trap(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT trap()::bigint';
  CREATE FUNCTION unnest(text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE FUNCTION trap_text(text, text) RETURNS bool LANGUAGE sql AS 'SELECT trap_bool()';
  CREATE FUNCTION trap_bigint(bigint, bigint) RETURNS bool LANGUAGE sql AS 'SELECT trap_bool()';
  CREATE FUNCTION trap_integer(integer, integer) RETURNS bool LANGUAGE sql AS 'SELECT trap_bool()';
  CREATE FUNCTION trap_time(timestamptz, timestamptz) RETURNS bool LANGUAGE sql AS 'SELECT trap_bool()';
  CREATE FUNCTION trap_plus(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT trap()::bigint';
  CREATE FUNCTION trap_plus_integer(bigint, integer) RETURNS bigint LANGUAGE sql AS 'SELECT trap()::bigint';
  CREATE FUNCTION trap_arrow(jsonb, text) RETURNS jsonb LANGUAGE sql AS 'SELECT trap()::jsonb';
  CREATE FUNCTION trap_concat(text, text) RETURNS text LANGUAGE sql AS 'SELECT trap()';
  CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = trap_text);
  CREATE OPERATOR <> (LEFTARG = text, RIGHTARG = text, FUNCTION = trap_text);
  CREATE OPERATOR ~ (LEFTARG = text, RIGHTARG = text, FUNCTION = trap_text);
  CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_bigint);
  CREATE OPERATOR < (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_bigint);
  CREATE OPERATOR > (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_bigint);
  CREATE OPERATOR >= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_bigint);
  CREATE OPERATOR <= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_bigint);
  CREATE OPERATOR <> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_bigint);
  CREATE OPERATOR > (LEFTARG = integer, RIGHTARG = integer, FUNCTION = trap_integer);
  CREATE OPERATOR = (LEFTARG = integer, RIGHTARG = integer, FUNCTION = trap_integer);
  CREATE OPERATOR <= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap_time);
  CREATE OPERATOR + (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = trap_plus);
  CREATE OPERATOR + (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = trap_plus_integer);
  CREATE OPERATOR -> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = trap_arrow);
  CREATE OPERATOR || (LEFTARG = text, RIGHTARG = text, FUNCTION = trap_concat);
";

/// Tables and types in the place that is searched first for them unless a path says otherwise.
const TEMPORARY: &str = "
  CREATE TEMP TABLE stream_heads (stream_no bigint, version bigint, deleted boolean, stream text, truncated_before bigint, created_at timestamptz);
  CREATE TEMP TABLE events (position bigint, stream_no bigint, version bigint);
  CREATE TEMP TABLE store (epoch bigint);
  CREATE TEMP TABLE pg_roles (rolname name, oid oid);
  CREATE TEMP TABLE pg_extension (extname name, extversion text);
  CREATE TEMP TABLE pg_subscription_rel (srrelid oid);
  CREATE TEMP TABLE pg_locks (locktype text);
  CREATE TEMP TABLE append_result (nothing int);
  CREATE DOMAIN pg_temp.bigint AS int CHECK (false);
  CREATE DOMAIN pg_temp.jsonb AS int CHECK (false);
";

/// Every public operation once; each works as if nobody had set a trap.
fn use_everything(client: &mut Client) {
    for call in [
        "SELECT mire.append('s-1', '[{\"type\": \"t\", \"data\": 1, \"id\": \"018f4f5e-0000-7000-8000-000000000001\"}]', '0')",
        "SELECT mire.append_events('s-1', '{t,u}', '{1,2}', NULL, NULL, '1')",
        "SELECT mire.append_batch('{s-1,s-2}', '{3,0}', '{1,1}', '{t,t}', '{1,1}')",
        "SELECT mire.read_stream('s-1')",
        "SELECT mire.read_stream('s-1', '3', '1', 'true')",
        "SELECT mire.stream_version('s-1')",
        "SELECT mire.save_snapshot('s-1', '2', '1', '{}')",
        "SELECT mire.load_stream('s-1', '1')",
        "SELECT mire.read_all()",
        "SELECT mire.read_all('0', '10', '{s}', '{t}')",
        "SELECT mire.read_all('0', '10', '{s,x}')",
        "SELECT mire.safe_position()",
        "CALL mire.wait_for_events('0', '1 s')",
        "SELECT mire.acquire_lease('r', 'me', '1 h')",
        "SELECT mire.acquire_lease('r', 'you', '1 h')",
        "SELECT mire.assert_lease('r', fence) FROM mire.lease_status",
        "SELECT mire.renew_lease('r', fence, '1 h') FROM mire.lease_status",
        "SELECT mire.release_lease('r', fence) FROM mire.lease_status",
        "SELECT mire.delete_snapshots('s-1', '1')",
        "SELECT * FROM mire.stats, mire.streams, mire.feed_blockers, mire.store_info()",
        "SELECT mire.grant_access('postgres', 'reader')",
        "SELECT mire.revoke_access('postgres')",
        "SELECT mire.truncate_stream('s-1', '2')",
        "SELECT mire.delete_stream('s-1', '5')",
        "SELECT mire.new_epoch()",
    ] {
        client
            .simple_query(call)
            .unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    // And the refusals, whose messages are made by functions too.
    refused(
        client.simple_query("SELECT mire.append('s-2', '[]', '7')"),
        "MI001",
    );
    refused(
        client.simple_query("SELECT mire.append('s-9', '[]', '-1')"),
        "MI002",
    );
    refused(
        client.simple_query("SELECT mire.assert_lease('r', '1')"),
        "MI003",
    );
    refused(
        client.simple_query("SELECT mire.append('$s', '[]')"),
        "MI004",
    );
    refused(
        client.simple_query("SELECT mire.append('s-1', '[]')"),
        "MI005",
    );
    refused(client.simple_query("SELECT mire.read_all('-1')"), "22023");
}

#[test]
fn traps_in_public_and_in_temporary_schemas_catch_no_definer_function() {
    let database = shared().fresh_database().unwrap();
    let attacker = format!("{}_attacker", database.name);
    database
        .sql(&format!(
            "CREATE ROLE {attacker} LOGIN; GRANT CREATE ON SCHEMA public TO {attacker};
             SELECT mire.grant_access('{attacker}', 'admin')"
        ))
        .unwrap();
    let mut client = connect(&database.url_as(&attacker));
    client
        .batch_execute("SET search_path = public, pg_catalog")
        .unwrap();
    client.batch_execute(TRAPS).unwrap();
    // The traps work: without a pinned path they would be stepped on.
    refused(client.simple_query("SELECT 'a'::text = 'b'::text"), "TRAP1");
    refused(
        client.simple_query("SELECT split_part('a', 'b', 1)"),
        "TRAP1",
    );
    client.batch_execute(TEMPORARY).unwrap();
    client
        .batch_execute("SET search_path = public, pg_temp, pg_catalog")
        .unwrap();
    use_everything(&mut client);
}

#[test]
fn traps_laid_before_the_installation_catch_no_superuser() {
    let cluster = Cluster::builder().bare().start().unwrap();
    for statement in ["CREATE DATABASE trapped", "CREATE ROLE attacker LOGIN"] {
        cluster.sql("postgres", statement).unwrap();
    }
    cluster
        .sql("trapped", "GRANT CREATE ON SCHEMA public TO attacker")
        .unwrap();
    let mut attacker = connect(&cluster.url_as("attacker", "trapped"));
    attacker
        .batch_execute("SET search_path = public, pg_catalog")
        .unwrap();
    attacker.batch_execute(TRAPS).unwrap();

    let mut superuser = connect(&cluster.url("trapped"));
    superuser
        .batch_execute("SET search_path = public, pg_catalog")
        .unwrap();
    superuser.batch_execute("CREATE EXTENSION pg_mire").unwrap();
    superuser
        .batch_execute("RESET search_path; SELECT mire.grant_access('attacker', 'admin')")
        .unwrap();
    let strays = "SELECT count(*) FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.refobjid AND d.refclassid = 'pg_proc'::regclass
                   WHERE p.pronamespace = 'public'::regnamespace AND d.classid <> 'pg_operator'::regclass";
    assert_eq!(
        value::<i64>(&mut superuser, strays),
        0,
        "something of ours depends on the attacker's functions"
    );
    use_everything(&mut attacker);
}

#[test]
fn nobody_rewrites_history() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(3), Some(0)).unwrap();
    let before: String = value(
        &mut client,
        "SELECT md5(string_agg(e::text, ',' ORDER BY position)) FROM mire.events AS e",
    );
    let merge: bool = value(
        &mut client,
        "SELECT current_setting('server_version_num')::int >= 150000",
    );
    let mut changes = vec![
        "UPDATE mire.events SET data = '{}'",
        "UPDATE mire.events SET data = data WHERE false",
        "UPDATE ONLY mire.events SET version = version + 1 WHERE position = 3",
        "DELETE FROM mire.events",
        "DELETE FROM mire.events WHERE position = 1",
        "TRUNCATE mire.events",
        "TRUNCATE mire.stream_heads, mire.events CASCADE",
        "INSERT INTO mire.events SELECT * FROM mire.events ON CONFLICT (position) DO UPDATE SET data = '{}'",
        "WITH gone AS (DELETE FROM mire.events RETURNING 1) SELECT count(*) FROM gone",
        "SELECT mire_internal.delete_events(1, 9)",
    ];
    if merge {
        changes.push("MERGE INTO mire.events AS e USING (VALUES (1)) AS v (p) ON e.position = v.p WHEN MATCHED THEN DELETE");
        changes.push("MERGE INTO mire.events AS e USING (VALUES (1)) AS v (p) ON e.position = v.p WHEN MATCHED THEN UPDATE SET data = '0'");
    }
    for session in [
        "RESET ROLE",
        "SET ROLE mire_owner",
        "RESET ROLE; SET session_replication_role = replica",
    ] {
        client.batch_execute(session).unwrap();
        for change in &changes {
            refused(client.simple_query(change), "MI006");
        }
    }
    client
        .batch_execute("RESET session_replication_role")
        .unwrap();
    let after: String = value(
        &mut client,
        "SELECT md5(string_agg(e::text, ',' ORDER BY position)) FROM mire.events AS e",
    );
    assert_eq!(after, before);
    // The trigger answers for every way in that a permission does not close already.
    let own = "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = 'mire.events'::regclass AND tgname = 'history_is_append_only'";
    assert_eq!(value::<String>(&mut client, own), "A");
}
