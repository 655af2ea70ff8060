-- array_fault: append's arrays are one-dimensional and start at 1, so that item i is element i everywhere.
CREATE FUNCTION mire_internal.array_fault(items anyarray)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF array_ndims(items) > 1 THEN
    RETURN format('has %s dimensions instead of one', array_ndims(items));
  ELSIF array_lower(items, 1) <> 1 THEN
    RETURN format('starts at index %s instead of 1', array_lower(items, 1));
  END IF;
  RETURN NULL;
END
$$;

-- check_array: raises MI004 unless the array has the right shape and length (NULL length: any).
CREATE FUNCTION mire_internal.check_array(field text, items anyarray, length integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  fault text := mire_internal.array_fault(items);
BEGIN
  IF fault IS NULL AND cardinality(items) <> length THEN
    fault := format('has %s elements instead of %s', cardinality(items), length);
  END IF;
  IF fault IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, field, fault);
  END IF;
END
$$;

-- event_fault: what is wrong with one event; NULL when nothing is.
CREATE FUNCTION mire_internal.event_fault(type text, data jsonb, metadata jsonb)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  fault text := mire_internal.name_fault(type);
  size bigint := pg_column_size(data) + coalesce(pg_column_size(metadata), 0);
BEGIN
  IF fault IS NOT NULL THEN
    RETURN format('type %s', fault);
  ELSIF data IS NULL THEN
    RETURN 'data is null (JSON null is allowed, SQL NULL is not)';
  ELSIF jsonb_typeof(metadata) <> 'object' THEN
    RETURN format('metadata is a JSON %s instead of an object', jsonb_typeof(metadata));
  ELSIF size > mire_internal.setting('max_event_bytes') THEN
    RETURN format('data and metadata have %s bytes, and mire.max_event_bytes is %s',
                  size, mire_internal.setting('max_event_bytes'));
  END IF;
  RETURN NULL;
END
$$;

-- events_fault: the first thing wrong among the events from one index to another; NULL when nothing is.
CREATE FUNCTION mire_internal.events_fault(
  types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer,
  OUT item integer, OUT reason text)
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  FOR i IN first..last LOOP
    reason := mire_internal.event_fault(types[i], data[i], metadata[i]);
    IF reason IS NOT NULL THEN
      item := i - first + 1;
      RETURN;
    END IF;
  END LOOP;

  IF ids IS NOT NULL AND last > first THEN
    SELECT max(n.ord), format('event id %s is given twice', n.id)
      INTO item, reason
      FROM (SELECT i - first + 1 AS ord, ids[i] AS id FROM generate_series(first, last) AS i) AS n
     WHERE n.id IS NOT NULL
     GROUP BY n.id
    HAVING count(*) > 1
     LIMIT 1;
  END IF;
END
$$;

-- check_events: raises MI004 for the first thing wrong with the events of one append.
CREATE FUNCTION mire_internal.check_events(types text[], data jsonb[], metadata jsonb[], ids uuid[])
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  total integer := cardinality(types);
  fault record;
BEGIN
  IF types IS NULL OR data IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, CASE WHEN types IS NULL THEN 'types' ELSE 'data' END, 'is null');
  END IF;
  PERFORM mire_internal.check_array('types', types, NULL);
  PERFORM mire_internal.check_array('data', data, total);
  PERFORM mire_internal.check_array('metadata', metadata, total);
  PERFORM mire_internal.check_array('ids', ids, total);
  IF total > mire_internal.setting('max_events_per_call') THEN
    PERFORM mire_internal.raise_invalid(NULL, 'events',
      format('are %s, and mire.max_events_per_call is %s', total, mire_internal.setting('max_events_per_call')));
  END IF;

  fault := mire_internal.events_fault(types, data, metadata, ids, 1, total);
  IF fault.reason IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(fault.item, 'event', fault.reason);
  END IF;
END
$$;
