-- saga_claim: takes instances that are due and that nobody holds, oldest first: timers and retries that have come,
-- answers and signals that arrived, and instances whose holder has not come back within its ttl.
-- Locks: the instances' rows, until commit, without waiting (SKIP LOCKED). Writes nothing when nothing is due. Bounds the
-- transaction's idle time by the ttl, so that a claimer who stalls in it gives way.
-- Raises: MI004 for a bad holder or arrays that do not fit together; 22023 for a count below 1 or a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.saga_claim(holder text, sagas text[], topology_versions integer[], max_count integer, ttl interval)
RETURNS SETOF mire.claimed_saga
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  moment timestamptz;
  claimed_sagas text[];
  claimed_instances text[];
  last mire.claimed_saga;
BEGIN
  PERFORM mire_internal.check_name('holder', holder);
  PERFORM mire_internal.check_count('max_count', max_count);
  ttl := mire_internal.check_ttl(ttl);
  IF sagas IS NULL OR topology_versions IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'sagas', 'or topology_versions is null');
  END IF;
  PERFORM mire_internal.check_array('sagas', sagas, NULL);
  PERFORM mire_internal.check_array('topology_versions', topology_versions, cardinality(sagas));
  IF cardinality(sagas) > 1000 THEN
    PERFORM mire_internal.raise_invalid(NULL, 'sagas', format('has %s elements, and 1000 are the most', cardinality(sagas)));
  END IF;
  PERFORM mire_internal.make_durable();

  moment := clock_timestamp();
  SELECT array_agg(d.saga), array_agg(d.instance) INTO claimed_sagas, claimed_instances
    FROM (SELECT s.saga, s.instance
            FROM (SELECT DISTINCT p.saga, p.version FROM unnest(sagas, topology_versions) AS p (saga, version)) AS p
           CROSS JOIN LATERAL (
             SELECT s.saga, s.instance, s.due_at
               FROM mire.sagas AS s
              WHERE s.saga = p.saga AND s.topology_version = p.version AND s.due_at <= moment AND s.lease_expires_at <= moment
              ORDER BY s.due_at
              LIMIT max_count
                FOR NO KEY UPDATE SKIP LOCKED) AS s
           ORDER BY s.due_at
           LIMIT max_count) AS d;

  IF claimed_sagas IS NOT NULL THEN
    PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM ttl) * 1000)::bigint);
    -- due_at as well: should this holder not come back, the same index finds the instance again.
    moment := clock_timestamp();
    UPDATE mire.sagas AS s
       SET holder = saga_claim.holder,
           fence = greatest(nextval('mire.fences'), s.fence + 1),
           lease_expires_at = moment + ttl,
           due_at = moment + ttl,
           -- Still somebody's: who did not come back.
           attempts = s.attempts + (s.holder IS NOT NULL)::integer
      FROM unnest(claimed_sagas, claimed_instances) AS c (saga, instance)
     WHERE s.saga = c.saga AND s.instance = c.instance;

    RETURN QUERY
      SELECT s.saga, s.instance, s.topology_version, s.status, s.fence, e.version, s.attempts, moment, e.events, NULL::timestamptz
        FROM unnest(claimed_sagas, claimed_instances) WITH ORDINALITY AS c (saga, instance, ord)
       INNER JOIN mire.sagas AS s ON s.saga = c.saga AND s.instance = c.instance
       CROSS JOIN LATERAL mire_internal.saga_events_or_why_not(s.stream_no) AS e
       ORDER BY c.ord;
    IF cardinality(claimed_sagas) = max_count THEN
      -- There may be more that are due: then at once.
      SELECT min(s.due_at) INTO last.next_due_at
        FROM unnest(sagas, topology_versions) AS p (saga, version)
       CROSS JOIN LATERAL (
         SELECT s.due_at
           FROM mire.sagas AS s
          WHERE s.saga = p.saga AND s.topology_version = p.version AND s.due_at <= moment AND s.lease_expires_at <= moment
          ORDER BY s.due_at
          LIMIT 1) AS s;
    END IF;
  END IF;

  last.now := moment;
  last.next_due_at := coalesce(last.next_due_at, mire_internal.next_due(sagas, topology_versions, moment));
  RETURN NEXT last;
END
$$;
COMMENT ON FUNCTION mire.saga_claim(text, text[], integer[], integer, interval) IS
'Takes at most max_count instances that are due, of sagas[i] with topology_versions[i], for holder for ttl (10 ms to 1 day). '
'Each comes with its whole history and the fence for saga_commit and saga_renew. A last row without a saga tells in '
'next_due_at when to claim again if no answer or signal comes before (NULL: nothing is due by itself). Never waits. Raises '
'MI004, 22023';

-- next_due: when the next of these instances can be claimed, as far as is known. Those that are leased count from when their
-- lease ends; one that is due and free is in somebody's open transaction, and is not asked for at once.
CREATE FUNCTION mire_internal.next_due(sagas text[], topology_versions integer[], moment timestamptz)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  RETURN (
    SELECT min(least(past.due_at, future.due_at))
      FROM unnest(sagas, topology_versions) AS p (saga, version)
     CROSS JOIN LATERAL (
       SELECT min(greatest(s.lease_expires_at, moment + interval '100 ms')) AS due_at
         FROM mire.sagas AS s
        WHERE s.saga = p.saga AND s.topology_version = p.version AND s.due_at <= moment) AS past
     CROSS JOIN LATERAL (
       SELECT min(s.due_at) AS due_at
         FROM mire.sagas AS s
        WHERE s.saga = p.saga AND s.topology_version = p.version AND s.due_at > moment) AS future);
END
$$;

-- saga_events: an instance's history as JSON, and its version.
CREATE FUNCTION mire_internal.saga_events(stream_no bigint)
RETURNS TABLE (version bigint, events jsonb)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT max(e.version) AS version,
         jsonb_agg(jsonb_build_object('version', e.version, 'at', mire_internal.epoch_of(e.recorded_at),
                                      'facts', e.data -> 'facts') ORDER BY e.version) AS events
    FROM mire.events AS e
   WHERE e.stream_no = saga_events.stream_no;
END;

-- saga_events_or_why_not: as saga_events; a history that is too large for one JSON value comes as a sentence instead, which
-- nobody takes for a history: that instance's drive fails, and no other's.
CREATE FUNCTION mire_internal.saga_events_or_why_not(stream_no bigint)
RETURNS TABLE (version bigint, events jsonb)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE AS $$
BEGIN
  SELECT e.version, e.events INTO version, events
    FROM mire_internal.saga_events(saga_events_or_why_not.stream_no) AS e;
  RETURN NEXT;
EXCEPTION
  WHEN program_limit_exceeded OR out_of_memory THEN
    SELECT max(e.version), to_jsonb(format('the history is too large: %s events', count(*))) INTO version, events
      FROM mire.events AS e
     WHERE e.stream_no = saga_events_or_why_not.stream_no;
    RETURN NEXT;
END
$$;
