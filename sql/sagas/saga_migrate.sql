-- saga_migrate: moves instances to another version of their topology. Whoever holds one cannot commit any more.
-- Locks: the instances' rows in sorted order, each waiting for whoever holds it, then the streams' rows and the in-flight
-- lock, until commit.
-- Raises: MI004 for a bad name or list; 22023 for a version below 0, or the same one twice.
CREATE FUNCTION mire.saga_migrate(saga text, from_version integer, to_version integer, instances text[] DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  held mire.sagas;
  moved bigint := 0;
BEGIN
  PERFORM mire_internal.check_name('saga', saga);
  PERFORM mire_internal.check_array('instances', instances, NULL);
  IF from_version IS NULL OR from_version < 0 THEN
    PERFORM mire_internal.raise_out_of_range('from_version', '0 or more');
  ELSIF to_version IS NULL OR to_version < 0 OR to_version = from_version THEN
    PERFORM mire_internal.raise_out_of_range('to_version', '0 or more, and another one than from_version');
  END IF;
  FOR held IN
    SELECT s.*
      FROM mire.sagas AS s
     WHERE s.saga = saga_migrate.saga AND s.topology_version = from_version AND NOT s.pruned
       AND CASE WHEN instances IS NULL THEN s.ended_at IS NULL ELSE s.instance = ANY (instances) END
     ORDER BY s.saga, s.instance
       FOR NO KEY UPDATE
  LOOP
    PERFORM mire_internal.record_fact(held, '$saga_operated',
      jsonb_build_object('fact', 'migrated', 'from', from_version, 'to', to_version, 'by', session_user), NULL);
    PERFORM mire_internal.take_from_holder(held);
    UPDATE mire.sagas AS s SET topology_version = to_version WHERE s.saga = held.saga AND s.instance = held.instance;
    moved := moved + 1;
  END LOOP;
  RETURN moved;
END
$$;
COMMENT ON FUNCTION mire.saga_migrate(text, integer, integer, text[]) IS
'Moves a saga''s instances from one topology version to another: all open ones, or those named (also ended ones). Recorded in '
'their histories; they are due at once. Returns how many were moved. For admins. Raises MI004, 22023';
