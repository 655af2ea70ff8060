-- leave_subscriptions: a worker process goes: the partitions it holds are free at once, and nobody counts on it any more.
-- Locks: the caller's leases, until commit.   Raises: 22023.
CREATE FUNCTION mire.leave_subscriptions(
  names text[], worker text, held_partitions text[] DEFAULT NULL, held_fences bigint[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  IF cardinality(held_partitions) IS DISTINCT FROM cardinality(held_fences) THEN
    PERFORM mire_internal.raise_out_of_range('held_fences', 'one for each of held_partitions');
  END IF;
  DELETE FROM mire.leases AS l
   WHERE l.resource IN (
     SELECT mire_internal.worker_resource(n, leave_subscriptions.worker) FROM unnest(names) AS n);
  PERFORM mire.release_lease(held.resource, held.fence)
     FROM unnest(held_partitions, held_fences) AS held (resource, fence)
    WHERE starts_with(held.resource, '$subscription/')
    ORDER BY held.resource;
END
$$;
COMMENT ON FUNCTION mire.leave_subscriptions(text[], text, text[], bigint[]) IS
'A worker process that goes gives its partitions back and is no longer counted, so that others take over without waiting '
'for the ttl. Raises 22023';
