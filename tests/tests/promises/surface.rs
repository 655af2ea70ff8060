//! Item 12: the public SQL surface and the extension's members are pinned: a signature, a default, a column, a setting
//! or a member cannot change unnoticed. And what must be true of every object of the surface is.

use mire_cluster::shared;
use mire_tests::golden::assert_golden;
use mire_tests::session::{append, connect, events};
use postgres::Client;

/// The single text column of a query, a line a row.
fn lines(client: &mut Client, query: &str) -> String {
    let rows = client.query(query, &[]).unwrap();
    rows.iter()
        .map(|row| row.get::<_, String>(0) + "\n")
        .collect()
}

/// Fails with whatever the query finds.
#[track_caller]
fn assert_none(client: &mut Client, what: &str, query: &str) {
    assert_eq!(lines(client, query), "", "{what}");
}

const ROUTINES: &str = "
  SELECT format(E'%s mire.%s(%s)\\n  returns %s; %s, %s, parallel %s, %s%s',
           CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.proname, pg_get_function_arguments(p.oid),
           coalesce(pg_get_function_result(p.oid), 'its INOUT parameters'), l.lanname,
           CASE p.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
           CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END,
           CASE WHEN p.prosecdef THEN 'security definer' ELSE 'security invoker' END || CASE WHEN p.proisstrict THEN ', strict' ELSE '' END,
           coalesce('; ' || array_to_string(p.proconfig, '; '), ''))
    FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
   WHERE p.pronamespace = 'mire'::regnamespace
   ORDER BY p.proname COLLATE \"C\"";

const TYPES_AND_VIEWS: &str = "
  SELECT format('%s mire.%s(%s)', CASE c.relkind WHEN 'c' THEN 'type' ELSE 'view' END, c.relname,
           (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
              FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
    FROM pg_class AS c
   WHERE c.relnamespace = 'mire'::regnamespace AND c.relkind IN ('c', 'v')
   ORDER BY c.relkind, c.relname COLLATE \"C\"";

const SETTINGS: &str = "
  SELECT concat_ws(' ', 'setting', name, '=', boot_val || coalesce(unit, ''), vartype, 'from ' || min_val || ' to ' || max_val, context)
    FROM pg_settings WHERE name LIKE 'mire.%' ORDER BY name COLLATE \"C\"";

const LEVELS: &str = "
  SELECT format('grant %s on %s %s', level, lower(kind), name) FROM mire_internal.surface()
   ORDER BY level COLLATE \"C\", kind COLLATE \"C\", name COLLATE \"C\"";

/// Without array types and the row types of tables and views: those follow what they belong to, and their listing differs
/// between the versions of Postgres.
const MEMBERS: &str = "
  SELECT i.type || ' ' || i.identity
    FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass,
         pg_identify_object(d.classid, d.objid, 0) AS i
   WHERE e.extname = 'pg_mire' AND d.deptype = 'e' AND i.identity NOT LIKE '%[]'
     AND NOT EXISTS (SELECT FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind <> 'c'
                      WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid)
   ORDER BY (i.type || ' ' || i.identity) COLLATE \"C\"";

/// Tables, in the order of their columns; NOT NULL constraints have names of their own from 18 on, so they are left out.
const TABLES: &str = "
  SELECT format('table %s', c.oid::regclass) || string_agg(format(E'\\n  %s %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
           CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
           coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')), '' ORDER BY a.attnum)
         || coalesce((SELECT string_agg(E'\\n  ' || pg_get_indexdef(i.indexrelid), '' ORDER BY i.indexrelid::regclass::text)
                        FROM pg_index AS i WHERE i.indrelid = c.oid), '')
         || coalesce((SELECT string_agg(E'\\n  ' || n.conname || ' ' || pg_get_constraintdef(n.oid), '' ORDER BY n.conname)
                        FROM pg_constraint AS n WHERE n.conrelid = c.oid AND n.contype = 'c'), '')
         || coalesce((SELECT string_agg(E'\\n  ' || pg_get_triggerdef(t.oid) || ' -- enabled: ' || t.tgenabled::text, '' ORDER BY t.tgname)
                        FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), '')
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
   WHERE c.relnamespace = 'mire'::regnamespace AND c.relkind = 'r'
   GROUP BY c.oid ORDER BY c.oid::regclass::text COLLATE \"C\"";

#[test]
fn the_public_surface_is_what_was_agreed_on() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    append(&mut client, "s-1", &events(1), None).unwrap(); // loads the library, and with it the settings
    let surface: String = [ROUTINES, TYPES_AND_VIEWS, SETTINGS, LEVELS]
        .map(|query| lines(&mut client, query))
        .join("\n");
    assert_golden("surface.txt", &surface);
}

#[test]
fn the_members_of_the_extension_are_what_was_agreed_on() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    assert_golden("members.txt", &lines(&mut client, MEMBERS));
    assert_none(
        &mut client,
        "in our schemas and no member",
        "SELECT o.kind || ' ' || o.name FROM (
           SELECT 'relation', oid, 'pg_class'::regclass, oid::regclass::text FROM pg_class
            WHERE relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace) AND relkind IN ('r', 'v', 'S')
            UNION ALL
           SELECT 'routine', oid, 'pg_proc'::regclass, oid::regprocedure::text FROM pg_proc
            WHERE pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)) AS o (kind, oid, class, name)
          WHERE NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')",
    );
}

#[test]
fn tables_indexes_and_triggers_are_what_was_agreed_on() {
    let database = shared().fresh_database().unwrap();
    assert_golden("tables.txt", &lines(&mut connect(&database.url), TABLES));
}

#[test]
fn every_public_object_has_a_comment() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    assert_none(
        &mut client,
        "without a comment",
        "SELECT oid::regprocedure::text FROM pg_proc
          WHERE pronamespace = 'mire'::regnamespace AND coalesce(obj_description(oid, 'pg_proc'), '') = ''
          UNION ALL
         SELECT oid::regclass::text FROM pg_class
          WHERE relnamespace = 'mire'::regnamespace AND relkind IN ('r', 'v', 'S')
            AND coalesce(obj_description(oid, 'pg_class'), '') = ''
          UNION ALL
         SELECT t.oid::regtype::text FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind = 'c'
          WHERE typnamespace = 'mire'::regnamespace AND coalesce(obj_description(t.oid, 'pg_type'), '') = ''
          UNION ALL
         SELECT nspname FROM pg_namespace
          WHERE nspname IN ('mire', 'mire_internal') AND coalesce(obj_description(oid, 'pg_namespace'), '') = ''
          UNION ALL
         SELECT extname FROM pg_extension WHERE extname = 'pg_mire' AND coalesce(obj_description(oid, 'pg_extension'), '') = ''",
    );
    // What the manual says is raised is there: each MI code in a comment has a line of its own in the errors' table.
    assert_none(
        &mut client,
        "a parameter without a name",
        "SELECT oid::regprocedure::text FROM pg_proc
          WHERE pronamespace = 'mire'::regnamespace AND pronargs > 0 AND (proargnames IS NULL OR '' = ANY (proargnames))",
    );
}

#[test]
fn every_definer_function_pins_its_search_path() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    assert_none(
        &mut client,
        "a definer function that trusts its caller's search_path",
        "SELECT oid::regprocedure::text FROM pg_proc
          WHERE pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace) AND prosecdef
            AND NOT coalesce('search_path=pg_catalog, mire, pg_temp' = ANY (proconfig), false)",
    );
    assert_none(
        &mut client,
        "a public SQL function that is neither a definer nor pinned",
        "SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_language AS l ON l.oid = prolang
          WHERE pronamespace = 'mire'::regnamespace AND lanname <> 'c' AND NOT prosecdef AND proconfig IS NULL",
    );
}

#[test]
fn every_table_and_sequence_is_dumped_whole() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    assert_none(
        &mut client,
        "not registered for pg_dump, or only in part",
        "SELECT c.oid::regclass::text FROM pg_class AS c
          WHERE c.relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace) AND c.relkind IN ('r', 'S')
            AND NOT EXISTS (SELECT FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS d (oid, condition)
                             WHERE e.extname = 'pg_mire' AND d.oid = c.oid AND d.condition = '')",
    );
}

#[test]
fn the_list_of_grantable_objects_covers_the_surface_and_nothing_else() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let public = "SELECT 'ROUTINE' AS kind, proname::text AS name FROM pg_proc WHERE pronamespace = 'mire'::regnamespace
                   UNION
                  SELECT CASE relkind WHEN 'v' THEN 'TABLE' ELSE 'TYPE' END, relname::text FROM pg_class
                   WHERE relnamespace = 'mire'::regnamespace AND relkind IN ('v', 'c')";
    let listed = "SELECT kind, name FROM mire_internal.surface()";
    for (what, left, right) in [
        ("public and not listed", public, listed),
        ("listed and not there", listed, public),
    ] {
        assert_none(
            &mut client,
            what,
            &format!("SELECT kind || ' ' || name FROM (({left}) EXCEPT ({right})) AS d"),
        );
    }
    assert_none(
        &mut client,
        "listed twice, or at an unknown level",
        "SELECT kind || ' ' || name FROM mire_internal.surface()
          GROUP BY kind, name HAVING count(*) > 1 OR bool_or(mire_internal.levels_of(level) IS NULL)",
    );
}

#[test]
fn no_public_name_is_overloaded() {
    let database = shared().fresh_database().unwrap();
    assert_none(
        &mut connect(&database.url),
        "overloaded",
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'mire'::regnamespace GROUP BY proname HAVING count(*) > 1",
    );
}
