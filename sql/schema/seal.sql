-- Everything belongs to mire_owner, nobody has a privilege yet, and pg_dump is told what to keep.
DO $$
DECLARE
  object record;
BEGIN
  FOR object IN
    SELECT CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' END AS kind,
           c.oid::regclass::text AS name
      FROM pg_class AS c
     WHERE c.relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace) AND c.relkind IN ('r', 'S', 'v')
     UNION ALL
    SELECT 'ROUTINE', p.oid::regprocedure::text
      FROM pg_proc AS p
     WHERE p.pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
     UNION ALL
    SELECT 'TYPE', t.oid::regtype::text
      FROM pg_type AS t
      JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind = 'c'
     WHERE t.typnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
     UNION ALL
    VALUES ('SCHEMA', 'mire'), ('SCHEMA', 'mire_internal')
  LOOP
    EXECUTE format('ALTER %s %s OWNER TO mire_owner', object.kind, object.name);
    EXECUTE format('REVOKE ALL ON %s %s FROM PUBLIC',
      CASE object.kind WHEN 'VIEW' THEN 'TABLE' ELSE object.kind END, object.name);
  END LOOP;

  -- Default privileges of this database may have granted something to others at creation. And the row type of a table
  -- is PUBLIC's unless told otherwise: a reader's column of that type would stand in an upgrade's way.
  FOR object IN
    SELECT DISTINCT o.kind, o.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
      FROM (SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
                   c.oid::regclass::text AS name, c.relacl AS acl
              FROM pg_class AS c
             WHERE c.relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace) AND c.relkind IN ('r', 'S', 'v')
             UNION ALL
            SELECT 'ROUTINE', p.oid::regprocedure::text, p.proacl
              FROM pg_proc AS p
             WHERE p.pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)
             UNION ALL
            SELECT 'TYPE', t.oid::regtype::text, coalesce(t.typacl, acldefault('T', t.typowner))
              FROM pg_type AS t
             WHERE t.typnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace) AND t.typtype = 'c'
             UNION ALL
            SELECT 'SCHEMA', n.nspname, n.nspacl FROM pg_namespace AS n WHERE n.nspname IN ('mire', 'mire_internal')) AS o
     CROSS JOIN LATERAL aclexplode(o.acl) AS a
     WHERE a.grantee <> 'mire_owner'::regrole
  LOOP
    EXECUTE format('REVOKE ALL ON %s %s FROM %s', object.kind, object.name, object.grantee);
  END LOOP;

  -- One call a statement: each updates the extension's catalog row.
  FOR object IN
    SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = 'mire'::regnamespace AND c.relkind IN ('r', 'S')
  LOOP
    PERFORM pg_extension_config_dump(object.oid, '');
  END LOOP;
END
$$;
