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

CREATE FUNCTION mire_internal.saga_name_fault(saga text, instance text)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  fault text := mire_internal.name_fault(saga);
BEGIN
  IF fault IS NOT NULL THEN
    RETURN format('saga %s', fault);
  ELSIF strpos(saga, '-') > 0 THEN
    RETURN 'saga holds a "-", and a saga''s name may not: there the category ends in the name of its streams';
  END IF;
  fault := mire_internal.name_fault(instance);
  IF fault IS NOT NULL THEN
    RETURN format('instance %s', fault);
  ELSIF octet_length(mire_internal.saga_stream(saga, instance)) > mire_internal.setting('max_name_bytes') THEN
    RETURN format('saga and instance make a stream''s name of %s bytes, and mire.max_name_bytes is %s',
                  octet_length(mire_internal.saga_stream(saga, instance)), mire_internal.setting('max_name_bytes'));
  END IF;
  RETURN NULL;
END
$$;

-- fields_fault: an item that is no object, has other keys than these, or values of the wrong JSON type. An absent key and
-- a JSON null are the same. small: whole numbers below 10^9; big: below 10^18.
CREATE FUNCTION mire_internal.fields_fault(
  item jsonb, texts text[], flags text[], small text[], big text[], lists text[], others text[])
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  field text;
BEGIN
  IF item IS NULL THEN
    RETURN 'item is null';
  ELSIF jsonb_typeof(item) <> 'object' THEN
    RETURN format('item is a JSON %s instead of an object', jsonb_typeof(item));
  ELSIF item - texts - flags - small - big - lists - others <> '{}' THEN
    RETURN format('item has the unknown key "%s"',
      left((SELECT min(k) FROM jsonb_object_keys(item - texts - flags - small - big - lists - others) AS k), 100));
  END IF;
  FOREACH field IN ARRAY texts LOOP
    IF jsonb_typeof(item -> field) NOT IN ('string', 'null') THEN
      RETURN format('%s is a JSON %s instead of a string', field, jsonb_typeof(item -> field));
    END IF;
  END LOOP;
  FOREACH field IN ARRAY flags LOOP
    IF jsonb_typeof(item -> field) NOT IN ('boolean', 'null') THEN
      RETURN format('%s is a JSON %s instead of a boolean', field, jsonb_typeof(item -> field));
    END IF;
  END LOOP;
  FOREACH field IN ARRAY small LOOP
    IF jsonb_typeof(item -> field) <> 'null'
       AND (jsonb_typeof(item -> field) <> 'number' OR item ->> field !~ '^[0-9]{1,9}$') THEN
      RETURN format('%s is no whole number from 0 to 999999999', field);
    END IF;
  END LOOP;
  FOREACH field IN ARRAY big LOOP
    IF jsonb_typeof(item -> field) <> 'null'
       AND (jsonb_typeof(item -> field) <> 'number' OR item ->> field !~ '^[0-9]{1,18}$') THEN
      RETURN format('%s is no whole number from 0 to 10^18 - 1', field);
    END IF;
  END LOOP;
  FOREACH field IN ARRAY lists LOOP
    IF jsonb_typeof(item -> field) NOT IN ('array', 'null') THEN
      RETURN format('%s is a JSON %s instead of an array', field, jsonb_typeof(item -> field));
    END IF;
  END LOOP;
  RETURN NULL;
END
$$;

-- required_fault: the first of these fields that is missing or null.
CREATE FUNCTION mire_internal.required_fault(item jsonb, fields text[])
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  field text;
BEGIN
  FOREACH field IN ARRAY fields LOOP
    IF coalesce(item -> field, 'null') = 'null' THEN
      RETURN format('item has no %s', field);
    END IF;
  END LOOP;
  RETURN NULL;
END
$$;

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

-- strings_fault: a list that holds anything but strings, or very many.
CREATE FUNCTION mire_internal.strings_fault(field text, list jsonb)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF coalesce(list, 'null') IN ('null', '[]') THEN
    RETURN NULL;
  ELSIF list @? 'strict $[*] ? (@.type() != "string")' THEN
    RETURN format('%s holds something that is no string', field);
  ELSIF jsonb_array_length(list) > 10000 THEN
    RETURN format('%s holds %s strings, and 10000 are the most', field, jsonb_array_length(list));
  END IF;
  RETURN mire_internal.size_fault(field, list);
END
$$;

-- keys_fault: a list of keys that holds anything but strings. Any number of them: what could be sent can be taken back.
CREATE FUNCTION mire_internal.keys_fault(field text, list jsonb)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF coalesce(list, 'null') NOT IN ('null', '[]') AND list @? 'strict $[*] ? (@.type() != "string")' THEN
    RETURN format('%s holds something that is no string', field);
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION mire_internal.strings_of(list jsonb)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF coalesce(list, 'null') IN ('null', '[]') THEN
    RETURN '{}';
  END IF;
  RETURN ARRAY(SELECT t FROM jsonb_array_elements_text(list) AS t);
END
$$;

-- outbox_fault: the first thing wrong with the messages of one commit.
CREATE FUNCTION mire_internal.outbox_fault(messages jsonb)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  message jsonb;
  fault text;
BEGIN
  IF coalesce(messages, 'null') IN ('null', '[]') THEN
    RETURN NULL;
  END IF;
  FOR message IN SELECT m FROM jsonb_array_elements(messages) AS m LOOP
    fault := coalesce(
      mire_internal.fields_fault(message, '{key,step,kind}', '{undo}', '{activation,request}', '{}', '{}', '{data}'),
      mire_internal.required_fault(message, '{key,step,kind,activation}'),
      mire_internal.label_fault('step', message ->> 'step'),
      mire_internal.label_fault('kind', message ->> 'kind'),
      mire_internal.size_fault('data', message -> 'data'));
    IF fault IS NULL AND octet_length(message ->> 'key') NOT BETWEEN 1 AND 2000 THEN
      fault := 'key is empty or longer than 2000 bytes';
    END IF;
    IF fault IS NOT NULL THEN
      RETURN format('outbox: %s', fault);
    END IF;
  END LOOP;
  IF (SELECT count(DISTINCT m ->> 'key') FROM jsonb_array_elements(messages) AS m) < jsonb_array_length(messages) THEN
    RETURN 'outbox: a key is given twice';
  END IF;
  RETURN NULL;
END
$$;

-- due_of: when an item is due: at due_at (microseconds since 1970) or due_in_ms from now, whichever comes first.
CREATE FUNCTION mire_internal.due_of(item jsonb)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
BEGIN
  RETURN least(timestamptz 'epoch' + (item ->> 'due_at')::bigint * interval '1 microsecond',
               clock_timestamp() + (item ->> 'due_in_ms')::bigint * interval '1 millisecond');
END
$$;

-- change_fault: what is wrong with the fields that saga_start and saga_commit share.
CREATE FUNCTION mire_internal.change_fault(item jsonb)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  fault text := coalesce(
    mire_internal.saga_name_fault(item ->> 'saga', item ->> 'instance'),
    mire_internal.strings_fault('steps', item -> 'steps'),
    mire_internal.size_fault('facts', item -> 'facts'),
    mire_internal.outbox_fault(item -> 'outbox'));
BEGIN
  IF fault IS NOT NULL THEN
    RETURN fault;
  ELSIF jsonb_path_query_array(item -> 'facts', 'strict $[*] ? (@.type() == "object" && @.fact.type() == "string")') <> item -> 'facts' THEN
    RETURN 'facts holds something that is no object with a string "fact"';
  ELSIF item ->> 'status' NOT IN (
    'running', 'compensating', 'parked', 'intervention', 'completed', 'compensated', 'failed', 'cancelled') THEN
    RETURN format('status is "%s", which is none', left(item ->> 'status', 100));
  ELSIF (item ->> 'due_at')::bigint > 253402300799000000 THEN
    RETURN 'due_at is after the year 9999';
  ELSIF (item ->> 'due_in_ms')::bigint > 3155760000000 THEN
    RETURN 'due_in_ms is more than a hundred years';
  ELSIF octet_length(item ->> 'error') > mire_internal.setting('max_event_bytes') THEN
    RETURN 'error is longer than mire.max_event_bytes';
  END IF;
  RETURN NULL;
END
$$;

-- change_of: an item of saga_start or saga_commit, taken apart.
CREATE FUNCTION mire_internal.change_of(item jsonb, what text)
RETURNS mire_internal.saga_change LANGUAGE plpgsql VOLATILE PARALLEL SAFE AS $$
DECLARE
  change mire_internal.saga_change;
BEGIN
  IF what = 'start' THEN
    change.fault := coalesce(
      mire_internal.fields_fault(item, '{saga,instance,id,status,error}', '{keep}', '{topology_version}', '{due_at,due_in_ms}',
        '{facts,steps,outbox}', '{}'),
      mire_internal.required_fault(item, '{saga,instance,topology_version,facts}'),
      mire_internal.change_fault(item));
    IF change.fault IS NULL AND item #>> '{facts,0,fact}' IS DISTINCT FROM 'started' THEN
      change.fault := 'facts does not begin with "started"';
    END IF;
  ELSE
    change.fault := coalesce(
      mire_internal.fields_fault(item, '{saga,instance,id,status,error}', '{keep,failed}', '{}', '{version,fence,due_at,due_in_ms}',
        '{facts,steps,outbox,withdraw,settled}', '{}'),
      mire_internal.required_fault(item, '{saga,instance,version,facts,status}'),
      mire_internal.change_fault(item),
      mire_internal.keys_fault('withdraw', item -> 'withdraw'),
      mire_internal.keys_fault('settled', item -> 'settled'));
  END IF;
  IF change.fault IS NOT NULL THEN
    RETURN change;
  END IF;

  -- One expression: in the first call of a transaction each costs some microseconds to set up.
  RETURN ROW(
    NULL, item ->> 'saga', item ->> 'instance', mire_internal.saga_stream(item ->> 'saga', item ->> 'instance'),
    (item ->> 'topology_version')::integer, (item ->> 'version')::bigint, (item ->> 'fence')::bigint, item -> 'facts',
    mire_internal.saga_event_id(what, item ->> 'id'), coalesce(item ->> 'status', 'running'), mire_internal.strings_of(item -> 'steps'),
    item ->> 'error', mire_internal.due_of(item),
    coalesce((item ->> 'keep')::boolean AND NOT mire_internal.saga_ended(coalesce(item ->> 'status', 'running')), false),
    coalesce((item ->> 'failed')::boolean, false), nullif(nullif(item -> 'outbox', 'null'), '[]'),
    mire_internal.strings_of(item -> 'withdraw'), mire_internal.strings_of(item -> 'settled'))::mire_internal.saga_change;
END
$$;

CREATE FUNCTION mire_internal.saga_ended(status text)
RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT status IN ('completed', 'compensated', 'failed', 'cancelled');
END;

-- send_messages: puts a commit's messages into the outbox.
CREATE FUNCTION mire_internal.send_messages(change mire_internal.saga_change, stream_no bigint)
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
  INSERT INTO mire.outbox (stream_no, due_at, request, activation, undo, saga, instance, step, key, kind, data)
  SELECT send_messages.stream_no, clock_timestamp(), coalesce((m.message ->> 'request')::integer, 0),
         (m.message ->> 'activation')::integer, coalesce((m.message ->> 'undo')::boolean, false),
         change.saga, change.instance, m.message ->> 'step', m.message ->> 'key', m.message ->> 'kind',
         coalesce(m.message -> 'data', 'null')
    FROM jsonb_array_elements(change.outbox) WITH ORDINALITY AS m (message, ord)
   ORDER BY m.ord
$$;
