-- levels_of: a level includes those below it.
CREATE FUNCTION mire_internal.levels_of(level text)
RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE level
           WHEN 'reader' THEN '{reader}'::text[]
           WHEN 'writer' THEN '{reader,writer}'::text[]
           WHEN 'admin' THEN '{reader,writer,admin}'::text[]
         END
$$;

-- apply_access: makes a role's grants equal to a level (NULL: none).
CREATE FUNCTION mire_internal.apply_access(role text, level text)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  object record;
BEGIN
  EXECUTE format('REVOKE ALL ON SCHEMA mire FROM %I', role);
  FOR object IN SELECT s.level, s.kind, s.name FROM mire_internal.surface() AS s LOOP
    EXECUTE format('REVOKE ALL ON %s mire.%I FROM %I', object.kind, object.name, role);
    IF object.level = ANY (mire_internal.levels_of(level)) THEN
      EXECUTE format('GRANT %s ON %s mire.%I TO %I',
        CASE object.kind WHEN 'TABLE' THEN 'SELECT' WHEN 'TYPE' THEN 'USAGE' ELSE 'EXECUTE' END, object.kind, object.name, role);
    END IF;
  END LOOP;
  IF level IS NOT NULL THEN
    EXECUTE format('GRANT USAGE ON SCHEMA mire TO %I', role);
  END IF;
END
$$;

-- reapply_access: for upgrade scripts: a new function reaches the roles that were granted its level, unless somebody
-- has taken their access away by other means since.
CREATE FUNCTION mire_internal.reapply_access()
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  PERFORM mire_internal.apply_access(g.role, g.level)
     FROM mire.grants AS g
     JOIN pg_roles AS r ON r.rolname = g.role
    WHERE EXISTS (
      SELECT FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
       WHERE n.nspname = 'mire' AND a.grantee = r.oid AND a.privilege_type = 'USAGE');
END
$$;

-- grant_access: lets a role use the store at a level, and remembers it, so that an upgrade's new functions reach it too.
-- Locks: the table of grants and catalog rows, until commit.
-- Raises: 42704 for an unknown role, 22023 for an unknown level.
CREATE FUNCTION mire.grant_access(role text, level text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = format('role "%s" does not exist', role),
      HINT = 'Create the role first; PUBLIC cannot be granted access.';
  ELSIF role = 'mire_owner' THEN
    PERFORM mire_internal.raise_out_of_range('role', 'another one than mire_owner, which owns everything and must not log in');
  ELSIF level IS NULL OR mire_internal.levels_of(level) IS NULL THEN
    PERFORM mire_internal.raise_out_of_range('level', '''reader'', ''writer'' or ''admin''');
  END IF;
  -- One at a time: two that change the same object's privileges would fail.
  LOCK TABLE mire.grants IN SHARE ROW EXCLUSIVE MODE;
  INSERT INTO mire.grants AS g (role, level, granted_at) VALUES (grant_access.role, grant_access.level, clock_timestamp())
  ON CONFLICT ON CONSTRAINT grants_pkey DO UPDATE SET level = excluded.level, granted_at = excluded.granted_at;
  PERFORM mire_internal.apply_access(role, level);
END
$$;
COMMENT ON FUNCTION mire.grant_access(text, text) IS
'Gives a role access: ''reader'' (streams, feed, views), ''writer'' (also append, snapshots, leases) or ''admin'' (also '
'delete_stream, truncate_stream, new_epoch, grant_access). Remembered, so that upgrades extend it. Call it again to '
'change the level. Before DROP ROLE, revoke_access';

-- revoke_access: takes a role's access away. False when it had none.
CREATE FUNCTION mire.revoke_access(role text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  known boolean;
BEGIN
  -- One at a time: two that change the same object's privileges would fail.
  LOCK TABLE mire.grants IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM mire.grants AS g WHERE g.role = revoke_access.role;
  known := FOUND;
  IF known AND EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = revoke_access.role) THEN
    PERFORM mire_internal.apply_access(role, NULL);
  END IF;
  RETURN known;
END
$$;
COMMENT ON FUNCTION mire.revoke_access(text) IS 'Takes away what grant_access gave a role. False when nothing was';
