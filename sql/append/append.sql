-- append: append_events for people and for drivers without arrays.
-- Locks and raises: as append_events.
CREATE FUNCTION mire.append(stream text, events jsonb, expected_version bigint DEFAULT NULL)
RETURNS mire.append_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  fault record;
  parts record;
BEGIN
  IF jsonb_typeof(events) IS DISTINCT FROM 'array' THEN
    PERFORM mire_internal.raise_invalid(NULL, 'events',
      format('is %s instead of an array of events', coalesce('a JSON ' || jsonb_typeof(events), 'null')));
  END IF;

  SELECT e.ord, mire_internal.event_json_fault(e.event) AS reason INTO fault
    FROM jsonb_array_elements(events) WITH ORDINALITY AS e (event, ord)
   WHERE mire_internal.event_json_fault(e.event) IS NOT NULL
   ORDER BY e.ord
   LIMIT 1;
  IF FOUND THEN
    PERFORM mire_internal.raise_invalid(fault.ord, 'event', fault.reason);
  END IF;

  SELECT coalesce(array_agg(e.event ->> 'type' ORDER BY e.ord), '{}') AS types,
         coalesce(array_agg(e.event -> 'data' ORDER BY e.ord), '{}') AS data,
         array_agg(nullif(e.event -> 'metadata', 'null') ORDER BY e.ord) AS metadata,
         array_agg((e.event ->> 'id')::uuid ORDER BY e.ord) AS ids
    INTO parts
    FROM jsonb_array_elements(events) WITH ORDINALITY AS e (event, ord);
  RETURN mire.append_events(stream, parts.types, parts.data, parts.metadata, parts.ids, expected_version);
END
$$;
COMMENT ON FUNCTION mire.append(text, jsonb, bigint) IS
'Appends events to one stream, all or none. events: an array of {"type", "data", "metadata"?, "id"?}; other keys are '
'refused. expected_version: NULL any, 0 must not exist, n exactly n, -1 must exist. Returns the stream''s new version '
'and the last position. Raises MI001, MI002, MI004, MI005';

-- event_json_fault: what is wrong with the JSON of one event before its parts are looked at; NULL when nothing is.
CREATE FUNCTION mire_internal.event_json_fault(event jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF jsonb_typeof(event) <> 'object' THEN
    RETURN format('is a JSON %s instead of an object', jsonb_typeof(event));
  ELSIF event - '{type,data,metadata,id}'::text[] <> '{}' THEN
    RETURN format('has the unknown key "%s"', (SELECT min(k) FROM jsonb_object_keys(event - '{type,data,metadata,id}'::text[]) AS k));
  ELSIF jsonb_typeof(event -> 'type') IS DISTINCT FROM 'string' THEN
    RETURN 'has no type (a string)';
  ELSIF NOT event ? 'data' THEN
    RETURN 'has no data';
  ELSIF event ->> 'id' !~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN
    RETURN format('has the id "%s", which is no UUID', left(event ->> 'id', 100));
  END IF;
  RETURN NULL;
END
$$;
