-- append_batch: many appends, one call, one commit. Every item lands whole or not at all and has an outcome of its
-- own; no item's outcome stops another. A stream may come more than once; its items then apply in order.
-- Locks: the streams' rows without waiting (who holds one makes its items busy), then the in-flight lock.
-- Raises: MI004 when the arrays do not fit together; everything else is an outcome.
CREATE FUNCTION mire.append_batch(
  streams text[], expected bigint[], counts integer[], types text[], data jsonb[],
  metadata jsonb[] DEFAULT NULL, ids uuid[] DEFAULT NULL)
RETURNS SETOF mire.batch_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  items integer;
  faults text[] := '{}';
  ours boolean[];
  head mire_internal.locked_stream;
  result mire.batch_result;
  first integer := 1;
  last integer;
BEGIN
  items := mire_internal.check_batch(streams, expected, counts, types, data, metadata, ids);

  FOR i IN 1..items LOOP
    faults[i] := mire_internal.batch_item_fault(
      streams[i], expected[i], types, data, metadata, ids, first, first + counts[i] - 1);
    first := first + counts[i];
  END LOOP;

  -- For each item whether its stream could be claimed.
  WITH item AS MATERIALIZED (
    SELECT * FROM unnest(streams, expected, counts, faults) WITH ORDINALITY AS i (stream, expected, count, fault, ord)
  ), claimed AS MATERIALIZED (
    SELECT unnest(mire_internal.claim_streams(
             array_agg(DISTINCT i.stream),
             array_agg(DISTINCT i.stream) FILTER (WHERE coalesce(i.expected, 0) = 0 AND i.count > 0))) AS stream
      FROM item AS i
     WHERE i.fault IS NULL
  )
  SELECT array_agg(c.stream IS NOT NULL ORDER BY i.ord) INTO ours
    FROM item AS i
    LEFT JOIN claimed AS c ON c.stream = i.stream;

  first := 1;
  FOR i IN 1..items LOOP
    last := first + counts[i] - 1;
    IF faults[i] IS NOT NULL THEN
      result := ROW(i, 'invalid', NULL, NULL, NULL, faults[i]);
    ELSE
      SELECT s.stream_no, s.version, s.deleted INTO head
        FROM mire.stream_heads AS s
       WHERE s.stream = streams[i];
      IF (FOUND AND NOT ours[i])
         OR (NOT FOUND AND coalesce(expected[i], 0) = 0 AND counts[i] > 0) THEN
        result := ROW(i, 'busy', NULL, NULL, NULL, NULL);
      ELSE
        result := mire_internal.write_events(
          streams[i], head, expected[i], types, data, metadata, ids, first, last);
        result.item := i;
      END IF;
    END IF;
    RETURN NEXT result;
    first := last + 1;
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.append_batch(text[], bigint[], integer[], text[], jsonb[], jsonb[], uuid[]) IS
'Many appends in one commit. Item i goes to streams[i] at expected[i] (as in append; NULL array: any version) and has '
'the next counts[i] elements of types, data, metadata and ids. Outcomes, one row an item: appended, duplicate, conflict, '
'busy (somebody''s open transaction has the stream: send it again alone), not_found, deleted, invalid (see reason)';

-- check_batch: raises MI004 unless the arrays fit together; gives the number of items.
CREATE FUNCTION mire_internal.check_batch(
  streams text[], expected bigint[], counts integer[], types text[], data jsonb[], metadata jsonb[], ids uuid[])
RETURNS integer LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  items integer := cardinality(streams);
  total bigint := 0;
  count integer;
BEGIN
  IF streams IS NULL OR counts IS NULL OR types IS NULL OR data IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'batch', 'lacks streams, counts, types or data');
  END IF;
  PERFORM mire_internal.check_array('streams', streams, NULL);
  PERFORM mire_internal.check_array('expected', expected, items);
  PERFORM mire_internal.check_array('counts', counts, items);
  FOREACH count IN ARRAY counts LOOP
    IF count IS NULL OR count < 0 THEN
      PERFORM mire_internal.raise_invalid(NULL, 'counts', 'holds a NULL or a negative number');
    END IF;
    total := total + count;
  END LOOP;
  IF total > mire_internal.setting('max_events_per_call') OR items > mire_internal.setting('max_events_per_call') THEN
    PERFORM mire_internal.raise_invalid(NULL, 'batch', format('has %s items and %s events, and mire.max_events_per_call is %s',
      items, total, mire_internal.setting('max_events_per_call')));
  END IF;
  PERFORM mire_internal.check_array('types', types, total::integer);
  PERFORM mire_internal.check_array('data', data, total::integer);
  PERFORM mire_internal.check_array('metadata', metadata, total::integer);
  PERFORM mire_internal.check_array('ids', ids, total::integer);
  RETURN items;
END
$$;

-- batch_item_fault: what makes one item invalid; NULL when nothing does.
CREATE FUNCTION mire_internal.batch_item_fault(
  stream text, expected bigint, types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  fault text := mire_internal.name_fault(stream);
  event record;
BEGIN
  IF fault IS NOT NULL THEN
    RETURN format('stream %s', fault);
  ELSIF expected < -1 THEN
    RETURN format('expected version %s is below -1', expected);
  END IF;
  event := mire_internal.events_fault(types, data, metadata, ids, first, last);
  IF event.reason IS NOT NULL THEN
    RETURN format('event %s: %s', event.item, event.reason);
  END IF;
  RETURN NULL;
END
$$;
