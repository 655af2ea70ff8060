-- saga_start: starts instances, each with its first facts and messages. Idempotent: an instance that is or was there is
-- left alone, also when it has been pruned. Each item has an outcome of its own.
-- Locks: makes the streams' rows in sorted order; waits for whoever is just starting the same instance. Then the in-flight lock.
-- Raises: MI004 when items has another shape than a list, or for a bad holder; 22023 for a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.saga_start(items jsonb[], holder text DEFAULT NULL, ttl interval DEFAULT NULL)
RETURNS SETOF mire.saga_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  item jsonb;
  change mire_internal.saga_change;
  changes mire_internal.saga_change[] := '{}';
  wanted text[] := '{}';
  numbers bigint[];
  result mire.saga_result;
BEGIN
  PERFORM mire_internal.check_items(items);
  IF holder IS NOT NULL OR ttl IS NOT NULL THEN
    PERFORM mire_internal.check_name('holder', holder);
    ttl := mire_internal.check_ttl(ttl);
  END IF;

  FOREACH item IN ARRAY items LOOP
    change := mire_internal.change_of(item, 'start');
    IF change.fault IS NULL AND change.keep AND holder IS NULL THEN
      change.fault := 'keep needs a holder and a ttl';
    END IF;
    changes := changes || change;
    wanted := wanted || change.stream;
  END LOOP;

  -- First all rows that somebody may be waited for. A name that is there already costs no stream number. numbers: for the
  -- first item of an instance that is to be started now.
  WITH wanted AS MATERIALIZED (
    SELECT w.stream COLLATE "C" AS stream, w.ord, row_number() OVER (PARTITION BY w.stream ORDER BY w.ord) AS nth
      FROM unnest(wanted) WITH ORDINALITY AS w (stream, ord)
  ), fresh AS (
    INSERT INTO mire.stream_heads (stream)
    SELECT w.stream
      FROM wanted AS w
     WHERE w.nth = 1 AND w.stream IS NOT NULL AND NOT EXISTS (SELECT FROM mire.stream_heads AS h WHERE h.stream = w.stream)
     ORDER BY w.stream
    ON CONFLICT ON CONSTRAINT stream_heads_stream_key DO NOTHING
    RETURNING stream_heads.stream, stream_heads.stream_no
  )
  SELECT array_agg(f.stream_no ORDER BY w.ord) INTO numbers
    FROM wanted AS w
    LEFT JOIN fresh AS f ON f.stream = w.stream AND w.nth = 1;

  result.item := 0;
  FOREACH change IN ARRAY changes LOOP
    result.item := result.item + 1;
    result.version := NULL;
    result.fence := NULL;
    result.reason := change.fault;
    IF change.fault IS NOT NULL THEN
      result.outcome := 'invalid';
    ELSIF numbers[result.item] IS NULL THEN
      result.outcome := 'exists';
      SELECT h.version INTO result.version FROM mire.stream_heads AS h WHERE h.stream = change.stream;
    ELSE
      result := mire_internal.start_instance(change, numbers[result.item], holder, ttl, result.item);
    END IF;
    RETURN NEXT result;
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.saga_start(jsonb[], text, interval) IS
'Starts instances of sagas. An item: {"saga", "instance", "topology_version", "facts": [{"fact": "started", "state": …}, …], '
'"id"?, "status"?, "steps"?, "error"?, "due_at"? (microseconds since 1970), "due_in_ms"?, "outbox"?: [{"key", "step", "undo"?, '
'"activation", "request"?, "kind", "data"?}], "keep"?}. keep: the caller holds it at once, under holder for ttl, and drives '
'it on with the fence. Outcomes: started, exists (now or before, also when pruned), invalid. Raises MI004, 22023';

-- start_instance: writes an instance whose stream has just been made.
CREATE FUNCTION mire_internal.start_instance(
  change mire_internal.saga_change, stream_no bigint, holder text, ttl interval, item integer)
RETURNS mire.saga_result LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  written mire.batch_result;
  moment timestamptz;
  result mire.saga_result;
BEGIN
  written := mire_internal.write_events(
    change.stream, ROW(start_instance.stream_no, 0, false)::mire_internal.locked_stream, 0, ARRAY['$saga_started'],
    ARRAY[jsonb_build_object('facts', change.facts)], NULL, ARRAY[change.event_id], 1, 1);
  result.item := item;
  result.outcome := 'started';
  result.version := written.version;
  moment := clock_timestamp();
  IF change.keep THEN
    result.fence := nextval('mire.fences');
    change.due_at := moment + ttl;
  ELSIF mire_internal.saga_ended(change.status) OR change.status = 'parked' THEN
    change.due_at := NULL;
  ELSIF change.due_at IS NULL AND jsonb_array_length(change.facts) = 1 THEN
    change.due_at := moment;
  END IF;

  INSERT INTO mire.sagas (stream_no, started_at, changed_at, lease_expires_at, fence, due_at, ended_at, topology_version, holder,
                          status, steps, error, saga, instance)
  VALUES (start_instance.stream_no, moment, moment, CASE WHEN change.keep THEN moment + ttl ELSE '-infinity' END,
          coalesce(result.fence, 0), change.due_at, CASE WHEN mire_internal.saga_ended(change.status) THEN moment END,
          change.topology_version, CASE WHEN change.keep THEN start_instance.holder END, change.status, change.steps, change.error,
          change.saga, change.instance);
  IF change.outbox IS NOT NULL THEN
    PERFORM mire_internal.send_messages(change, start_instance.stream_no);
  END IF;
  RETURN result;
END
$$;
