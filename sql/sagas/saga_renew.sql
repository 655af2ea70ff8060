-- saga_renew: heartbeats: extends the leases of instances that these fences still hold, in one statement.
-- Locks: the instances' rows (NO KEY UPDATE), until commit, without waiting. Bounds the transaction's idle time by the ttl.
-- Raises: MI004 when the arrays do not fit together; 22023 for a ttl outside 10 ms to 1 day.
-- A renewal that a crash undoes only shortens a lease, so it need not be durable.
CREATE FUNCTION mire.saga_renew(sagas text[], instances text[], fences bigint[], ttl interval)
RETURNS SETOF mire.renewed_item
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  IF sagas IS NULL OR instances IS NULL OR fences IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'sagas', ', instances or fences is null');
  END IF;
  PERFORM mire_internal.check_array('sagas', sagas, NULL);
  PERFORM mire_internal.check_array('instances', instances, cardinality(sagas));
  PERFORM mire_internal.check_array('fences', fences, cardinality(sagas));
  ttl := mire_internal.check_ttl(ttl);
  PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM ttl) * 1000)::bigint);
  RETURN QUERY
    WITH item AS MATERIALIZED (
      SELECT i.* FROM unnest(sagas, instances, fences) WITH ORDINALITY AS i (saga, instance, fence, ord)
    ), locked AS MATERIALIZED (
      SELECT s.saga, s.instance, s.fence, s.lease_expires_at > clock_timestamp() AS live
        FROM item AS i
       INNER JOIN mire.sagas AS s ON s.saga = i.saga AND s.instance = i.instance
         FOR NO KEY UPDATE OF s SKIP LOCKED
    ), renewed AS (
      UPDATE mire.sagas AS s
         SET lease_expires_at = clock_timestamp() + saga_renew.ttl
       WHERE (s.saga, s.instance, s.fence) IN (
         SELECT l.saga, l.instance, l.fence
           FROM locked AS l
          INNER JOIN item AS i ON i.saga = l.saga AND i.instance = l.instance AND i.fence = l.fence
          WHERE l.live)
      RETURNING s.saga, s.instance, s.fence
    )
    SELECT i.ord::integer,
           CASE WHEN EXISTS (SELECT FROM renewed AS r WHERE r.saga = i.saga AND r.instance = i.instance AND r.fence = i.fence) THEN true
                WHEN EXISTS (SELECT FROM locked AS l WHERE l.saga = i.saga AND l.instance = i.instance)
                  OR NOT EXISTS (SELECT FROM mire.sagas AS s WHERE s.saga = i.saga AND s.instance = i.instance) THEN false
           END
      FROM item AS i
     ORDER BY i.ord;
END
$$;
COMMENT ON FUNCTION mire.saga_renew(text[], text[], bigint[], interval) IS
'Extends the leases on instances (from saga_claim, saga_start or saga_commit) to ttl from now. One row an item: renewed is '
'false when the lease is lost (stop that work), NULL when a transaction has the row just now (ask again). Raises MI004, 22023';
