-- A second implementation of append in plain SQL, for comparison with the native one: every call must have the same answer,
-- the same error and the same rows in both. It has tables of its own, knows no other sessions and holds no feed back.

CREATE SCHEMA twin;
CREATE SEQUENCE twin.positions;
CREATE SEQUENCE twin.stream_numbers;
CREATE TABLE twin.stream_heads (LIKE mire.stream_heads INCLUDING ALL);
ALTER TABLE twin.stream_heads ALTER stream_no SET DEFAULT nextval('twin.stream_numbers');
CREATE TABLE twin.events (LIKE mire.events INCLUDING ALL);

CREATE FUNCTION twin.name_fault(name text)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF name IS NULL THEN
    RETURN 'is null';
  ELSIF name = '' THEN
    RETURN 'is empty';
  ELSIF octet_length(name) > mire_internal.setting('max_name_bytes') THEN
    RETURN format('has %s bytes, and mire.max_name_bytes is %s',
                  octet_length(name), mire_internal.setting('max_name_bytes'));
  ELSIF name COLLATE "C" ~ '[\u0001-\u001F\u007F-\u009F]' THEN
    RETURN 'holds a control character';
  ELSIF starts_with(name, '$') THEN
    RETURN 'begins with $, which is reserved for the store itself';
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION twin.check_name(field text, name text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  fault text := twin.name_fault(name);
BEGIN
  IF fault IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, field, fault);
  END IF;
END
$$;

CREATE FUNCTION twin.array_fault(items anyarray)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF array_ndims(items) > 1 THEN
    RETURN format('has %s dimensions instead of one', array_ndims(items));
  ELSIF array_lower(items, 1) <> 1 THEN
    RETURN format('starts at index %s instead of 1', array_lower(items, 1));
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION twin.check_array(field text, items anyarray, length integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  fault text := twin.array_fault(items);
BEGIN
  IF fault IS NULL AND cardinality(items) <> length THEN
    fault := format('has %s elements instead of %s', cardinality(items), length);
  END IF;
  IF fault IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, field, fault);
  END IF;
END
$$;

CREATE FUNCTION twin.event_fault(type text, data jsonb, metadata jsonb)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  fault text := twin.name_fault(type);
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

CREATE FUNCTION twin.events_fault(
  types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer,
  OUT item integer, OUT reason text)
LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN first..last LOOP
    reason := twin.event_fault(types[i], data[i], metadata[i]);
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

CREATE FUNCTION twin.check_events(types text[], data jsonb[], metadata jsonb[], ids uuid[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  total integer := cardinality(types);
  fault record;
BEGIN
  IF types IS NULL OR data IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, CASE WHEN types IS NULL THEN 'types' ELSE 'data' END, 'is null');
  END IF;
  PERFORM twin.check_array('types', types, NULL);
  PERFORM twin.check_array('data', data, total);
  PERFORM twin.check_array('metadata', metadata, total);
  PERFORM twin.check_array('ids', ids, total);
  IF total > mire_internal.setting('max_events_per_call') THEN
    PERFORM mire_internal.raise_invalid(NULL, 'events',
      format('are %s, and mire.max_events_per_call is %s', total, mire_internal.setting('max_events_per_call')));
  END IF;

  fault := twin.events_fault(types, data, metadata, ids, 1, total);
  IF fault.reason IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(fault.item, 'event', fault.reason);
  END IF;
END
$$;

CREATE FUNCTION twin.lock_stream(stream text, to_create boolean)
RETURNS mire_internal.locked_stream
LANGUAGE plpgsql AS $$
DECLARE
  head mire_internal.locked_stream;
BEGIN
  LOOP
    SELECT s.stream_no, s.version, s.deleted INTO head
      FROM twin.stream_heads AS s
     WHERE s.stream = lock_stream.stream
       FOR NO KEY UPDATE;
    IF FOUND OR NOT to_create THEN
      RETURN head;
    END IF;

    INSERT INTO twin.stream_heads (stream) VALUES (lock_stream.stream)
    ON CONFLICT ON CONSTRAINT stream_heads_stream_key DO NOTHING
    RETURNING stream_no, version, deleted INTO head;
    IF FOUND THEN
      RETURN head;
    END IF;
    -- Somebody else has just created it: lock theirs.
  END LOOP;
END
$$;

CREATE FUNCTION twin.write_events(
  stream text, head mire_internal.locked_stream, expected_version bigint,
  types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer)
RETURNS mire.batch_result
LANGUAGE plpgsql AS $$
DECLARE
  total CONSTANT integer := last - first + 1;
  current CONSTANT bigint := coalesce(head.version, 0);
  result mire.batch_result;
BEGIN
  result.actual_version := current;

  IF head.deleted THEN
    result.outcome := 'deleted';
    RETURN result;
  ELSIF expected_version = -1 AND current = 0 THEN
    result.outcome := 'not_found';
    RETURN result;
  ELSIF expected_version >= 0 AND expected_version <> current THEN
    -- The same ids in the slots that follow: this is a retry, and the first answer is given again.
    IF total > 0 AND total <= current - expected_version THEN
      SELECT max(e.position) INTO result.position
        FROM generate_series(first, last) AS i
        JOIN twin.events AS e
          ON e.stream_no = head.stream_no AND e.version = expected_version + i - first + 1 AND e.event_id = ids[i]
      HAVING count(*) = total;
      IF FOUND THEN
        -- The first attempt's commit may still be on its way to a standby.
        PERFORM mire_internal.make_durable();
        result.outcome := 'duplicate';
        result.version := expected_version + total;
        RETURN result;
      END IF;
    END IF;
    result.outcome := 'conflict';
    RETURN result;
  END IF;

  result.outcome := 'appended';
  result.version := current + total;
  IF total = 0 THEN
    RETURN result;
  END IF;

  IF total = 1 THEN
    INSERT INTO twin.events (position, stream_no, version, event_id, recorded_at, category, type, data, metadata)
    VALUES (nextval('twin.positions'), head.stream_no, result.version,
            coalesce(ids[first], gen_random_uuid()), clock_timestamp(), split_part(stream, '-', 1),
            types[first], data[first], metadata[first])
    RETURNING events.position INTO result.position;
  ELSE
    -- generate_series gives its rows in order, and nothing here sorts: positions follow versions.
    WITH written AS (
      INSERT INTO twin.events (position, stream_no, version, event_id, recorded_at, category, type, data, metadata)
      SELECT nextval('twin.positions'), head.stream_no, current + i - first + 1,
             coalesce(ids[i], gen_random_uuid()), clock_timestamp(), split_part(stream, '-', 1),
             types[i], data[i], metadata[i]
        FROM generate_series(first, last) AS i
      RETURNING events.position
    )
    SELECT max(w.position) INTO result.position FROM written AS w;
  END IF;

  UPDATE twin.stream_heads AS s SET version = result.version WHERE s.stream_no = head.stream_no;
  RETURN result;
END
$$;

CREATE FUNCTION twin.append_events(
  stream text, types text[], data jsonb[], metadata jsonb[] DEFAULT NULL, ids uuid[] DEFAULT NULL,
  expected_version bigint DEFAULT NULL)
RETURNS mire.append_result
LANGUAGE plpgsql
AS $$
DECLARE
  total integer;
  written mire.batch_result;
BEGIN
  PERFORM twin.check_name('stream', stream);
  PERFORM mire_internal.check_expected_version(expected_version);
  PERFORM twin.check_events(types, data, metadata, ids);
  total := cardinality(types);

  written := twin.write_events(
    stream,
    twin.lock_stream(stream, to_create => total > 0 AND coalesce(expected_version, 0) = 0),
    expected_version, types, data, metadata, ids, 1, total);

  CASE written.outcome
    WHEN 'conflict' THEN
      PERFORM mire_internal.raise_version_conflict(stream, expected_version, written.actual_version);
    WHEN 'not_found' THEN
      PERFORM mire_internal.raise_stream_not_found(stream);
    WHEN 'deleted' THEN
      PERFORM mire_internal.raise_stream_deleted(stream);
    ELSE
      NULL;
  END CASE;
  RETURN ROW(written.version, written.position, written.outcome = 'duplicate')::mire.append_result;
END
$$;

CREATE FUNCTION twin.check_batch(
  streams text[], expected bigint[], counts integer[], types text[], data jsonb[], metadata jsonb[], ids uuid[])
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  items integer := cardinality(streams);
  total bigint := 0;
  count integer;
BEGIN
  IF streams IS NULL OR counts IS NULL OR types IS NULL OR data IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'batch', 'lacks streams, counts, types or data');
  END IF;
  PERFORM twin.check_array('streams', streams, NULL);
  PERFORM twin.check_array('expected', expected, items);
  PERFORM twin.check_array('counts', counts, items);
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
  PERFORM twin.check_array('types', types, total::integer);
  PERFORM twin.check_array('data', data, total::integer);
  PERFORM twin.check_array('metadata', metadata, total::integer);
  PERFORM twin.check_array('ids', ids, total::integer);
  RETURN items;
END
$$;

CREATE FUNCTION twin.batch_item_fault(
  stream text, expected bigint, types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  fault text := twin.name_fault(stream);
  event record;
BEGIN
  IF fault IS NOT NULL THEN
    RETURN format('stream %s', fault);
  ELSIF expected < -1 THEN
    RETURN format('expected version %s is below -1', expected);
  END IF;
  event := twin.events_fault(types, data, metadata, ids, first, last);
  IF event.reason IS NOT NULL THEN
    RETURN format('event %s: %s', event.item, event.reason);
  END IF;
  RETURN NULL;
END
$$;

-- Nobody else is there, so every stream can be claimed.
CREATE FUNCTION twin.claim_streams(streams text[], to_create text[])
RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO twin.stream_heads (stream) SELECT t.stream FROM unnest(to_create) AS t (stream)
   WHERE NOT EXISTS (SELECT FROM twin.stream_heads AS h WHERE h.stream = t.stream COLLATE "C")
   ORDER BY t.stream COLLATE "C";
  RETURN ARRAY(SELECT h.stream FROM twin.stream_heads AS h WHERE h.stream = ANY (streams));
END
$$;

CREATE FUNCTION twin.append_batch(
  streams text[], expected bigint[], counts integer[], types text[], data jsonb[],
  metadata jsonb[] DEFAULT NULL, ids uuid[] DEFAULT NULL)
RETURNS SETOF mire.batch_result
LANGUAGE plpgsql
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
  items := twin.check_batch(streams, expected, counts, types, data, metadata, ids);

  FOR i IN 1..items LOOP
    faults[i] := twin.batch_item_fault(
      streams[i], expected[i], types, data, metadata, ids, first, first + counts[i] - 1);
    first := first + counts[i];
  END LOOP;

  -- For each item whether its stream could be claimed.
  WITH item AS MATERIALIZED (
    SELECT * FROM unnest(streams, expected, counts, faults) WITH ORDINALITY AS i (stream, expected, count, fault, ord)
  ), claimed AS MATERIALIZED (
    SELECT unnest(twin.claim_streams(
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
        FROM twin.stream_heads AS s
       WHERE s.stream = streams[i];
      IF (FOUND AND NOT ours[i])
         OR (NOT FOUND AND coalesce(expected[i], 0) = 0 AND counts[i] > 0) THEN
        result := ROW(i, 'busy', NULL, NULL, NULL, NULL);
      ELSE
        result := twin.write_events(
          streams[i], head, expected[i], types, data, metadata, ids, first, last);
        result.item := i;
      END IF;
    END IF;
    RETURN NEXT result;
    first := last + 1;
  END LOOP;
END
$$;
