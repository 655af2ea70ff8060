-- Items of calls about sagas are JSON objects. Whatever is wrong with one is that item's outcome and never an error: these
-- functions tell what it is, and NULL when nothing is. No SET clauses: they run per item.

-- check_items: raises MI004 unless the array has the right shape.
CREATE FUNCTION mire_internal.check_items(items jsonb[])
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF items IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'items', 'is null');
  END IF;
  PERFORM mire_internal.check_array('items', items, NULL);
  IF cardinality(items) > mire_internal.setting('max_events_per_call') THEN
    PERFORM mire_internal.raise_invalid(NULL, 'items', format('are %s, and mire.max_events_per_call is %s',
      cardinality(items), mire_internal.setting('max_events_per_call')));
  END IF;
END
$$;

CREATE FUNCTION mire_internal.saga_stream(saga text, instance text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT '$saga:' || saga || '-' || instance;
END;

-- saga_event_id: an event's id, made from the caller's id of what it records.
CREATE FUNCTION mire_internal.saga_event_id(what text, id text)
RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT md5(what || ':' || id)::uuid;
END;

-- item_fault: what is wrong with an item of 'deliver', 'signal' or 'ack', but for sizes; the first thing found.
CREATE FUNCTION mire_internal.item_fault(item text, call text)
RETURNS text LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'item_fault_wrapper';

-- label_fault: names inside an instance (steps, signals, kinds): short, visible, and $ is allowed.
CREATE FUNCTION mire_internal.label_fault(field text, label text)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  fault text := mire_internal.name_fault('_' || label);
BEGIN
  IF label = '' THEN
    RETURN format('%s is empty', field);
  ELSIF fault IS NOT NULL THEN
    RETURN format('%s %s', field, fault);
  END IF;
  RETURN NULL;
END
$$;

-- size_fault: data that would not fit into an event.
CREATE FUNCTION mire_internal.size_fault(field text, data jsonb)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF pg_column_size(data) > mire_internal.setting('max_event_bytes') THEN
    RETURN format('%s has %s bytes, and mire.max_event_bytes is %s',
                  field, pg_column_size(data), mire_internal.setting('max_event_bytes'));
  END IF;
  RETURN NULL;
END
$$;

-- start_items, commit_items: saga_start and saga_commit behind their checks. The two halves of a call that SQL does are
-- change_outbox, and the looks at what stands there already.
CREATE FUNCTION mire_internal.start_items(items jsonb[], holder text, ttl_us bigint)
RETURNS SETOF mire.saga_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'start_items_wrapper';

CREATE FUNCTION mire_internal.commit_items(items jsonb[], holder text, ttl_us bigint)
RETURNS SETOF mire.saga_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'commit_items_wrapper';

CREATE FUNCTION mire_internal.microseconds(span interval)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT (extract(epoch FROM span) * 1000000)::bigint;
END;
