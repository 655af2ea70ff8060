-- The role that owns everything: it cannot log in and has no rights beyond its own objects, so that a
-- flaw in a SECURITY DEFINER function is worth no more than what is in schema mire.
-- Roles belong to the cluster: a second database finds the role there and checks that it is still harmless.
DO $$
DECLARE
  risky text;
BEGIN
  IF current_setting('server_encoding') <> 'UTF8' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('pg_mire needs a database with encoding UTF8, and this one has %s',
                       current_setting('server_encoding')),
      HINT = 'Create the database with ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;

  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mire_owner') THEN
    CREATE ROLE mire_owner NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    RETURN;
  END IF;

  SELECT concat_ws(', ',
           CASE WHEN r.rolsuper THEN 'is a superuser' END,
           CASE WHEN r.rolcanlogin THEN 'can log in' END,
           CASE WHEN r.rolcreaterole THEN 'can create roles' END,
           CASE WHEN r.rolreplication THEN 'can replicate' END,
           CASE WHEN r.rolbypassrls THEN 'bypasses row security' END,
           CASE WHEN EXISTS (
             SELECT FROM pg_auth_members AS m
              WHERE (m.member = r.oid AND m.roleid <> 'pg_read_all_stats'::regrole)
                 OR (m.roleid = r.oid AND m.member <> (SELECT u.oid FROM pg_roles AS u WHERE u.rolname = current_user))
           ) THEN 'is a member of another role, or has members' END)
    INTO risky
    FROM pg_roles AS r
   WHERE r.rolname = 'mire_owner';

  IF risky <> '' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_role_specification',
      MESSAGE = format('role mire_owner exists already and %s', risky),
      HINT = 'pg_mire''s owner must be a plain NOLOGIN role: rename or drop that role, or take these rights from it.';
  END IF;
END
$$;

-- feed_blockers shows other sessions' age, and their query to admins.
GRANT pg_read_all_stats TO mire_owner;
