//! Roles of a test's own, and what a role may do in the two schemas.

use mire_cluster::Database;
use postgres::{Client, GenericClient};

/// A role of this test's own, with a level or none.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn role(database: &Database<'_>, name: &str, level: Option<&str>) -> String {
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
///
/// # Panics
/// When that cannot be asked.
pub fn privileges(client: &mut impl GenericClient, role: &str) -> Vec<String> {
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
///
/// # Panics
/// When that cannot be asked.
pub fn granted(client: &mut Client, level: &str) -> Vec<String> {
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
