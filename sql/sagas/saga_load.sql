-- saga_load: an instance as saga_claim gives it, without taking it. Works on a hot standby as well.
-- Locks: nothing.   Raises: nothing. An unknown instance has no row; of one that was pruned, events is null.
CREATE FUNCTION mire.saga_load(saga text, instance text)
RETURNS SETOF mire.claimed_saga
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  RETURN QUERY
    SELECT s.saga, s.instance, s.topology_version, s.status, NULL::bigint, e.version, s.attempts, clock_timestamp(),
           CASE WHEN NOT s.pruned THEN e.events END, s.due_at
      FROM mire.sagas AS s
     CROSS JOIN LATERAL mire_internal.saga_events(s.stream_no) AS e
     WHERE s.saga = saga_load.saga AND s.instance = saga_load.instance;
END
$$;
COMMENT ON FUNCTION mire.saga_load(text, text) IS
'An instance with its history, as saga_claim gives it, but nobody takes it: fence is NULL, next_due_at is its own. No row: '
'no such instance. events is NULL when it was pruned';
