-- saga_start: starts instances, each with its first facts and messages. Idempotent: an instance that is or was there is
-- left alone, also when it has been pruned. Each item has an outcome of its own.
-- Locks: makes the streams' rows in sorted order; waits for whoever is just starting the same instance. Then the in-flight lock.
-- Raises: MI004 when items has another shape than a list, or for a bad holder; 22023 for a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.saga_start(items jsonb[], holder text DEFAULT NULL, ttl interval DEFAULT NULL)
RETURNS SETOF mire.saga_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  PERFORM mire_internal.check_items(items);
  IF holder IS NOT NULL OR ttl IS NOT NULL THEN
    PERFORM mire_internal.check_name('holder', holder);
    ttl := mire_internal.check_ttl(ttl);
  END IF;
  RETURN QUERY SELECT r.* FROM mire_internal.start_items(items, holder, mire_internal.microseconds(ttl)) AS r;
END
$$;
COMMENT ON FUNCTION mire.saga_start(jsonb[], text, interval) IS
'Starts instances of sagas. An item: {"saga", "instance", "topology_version", "facts": [{"fact": "started", "state": …}, …], '
'"id"?, "status"?, "steps"?, "error"?, "due_at"? (microseconds since 1970), "due_in_ms"?, "outbox"?: [{"key", "step", "undo"?, '
'"activation", "request"?, "kind", "data"?}], "keep"?}. keep: the caller holds it at once, under holder for ttl, and drives '
'it on with the fence. Outcomes: started, duplicate (the same start, with the same id, again: answered as the first time, with the '
'fence while nobody else has touched it), exists (now or before, also when pruned), invalid. Raises MI004, 22023';

-- started_before: what to say of an instance that is or was there: whether this is the same start again (1 or 0), the
-- version, and the fence while the one that started it holds it still.
CREATE FUNCTION mire_internal.started_before(stream text, saga text, instance text, event_id uuid, holder text)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  RETURN (
    SELECT ARRAY[
             (first.event_id IS NOT NULL)::integer,
             coalesce(first.version, h.version),
             -- Neither committed nor claimed since: a claim counts an attempt then.
             CASE WHEN first.event_id IS NOT NULL AND s.holder = started_before.holder AND s.lease_expires_at > clock_timestamp()
                       AND s.attempts = 0 AND s.changed_at = s.started_at THEN s.fence END]
      FROM mire.stream_heads AS h
      LEFT JOIN mire.events AS first
        ON first.stream_no = h.stream_no AND first.version = 1 AND first.event_id = started_before.event_id
      LEFT JOIN mire.sagas AS s ON s.saga = started_before.saga AND s.instance = started_before.instance
     WHERE h.stream = started_before.stream);
END
$$;
