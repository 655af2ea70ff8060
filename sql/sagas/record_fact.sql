-- What comes from outside (answers, signals, operators) is one fact in an event of its own, and somebody is to look at the
-- instance then: due_at is set also while it is leased, and a holder who has not seen the fact cannot take that back, since
-- its commit meets another version.

-- lock_instances: locks the instances that these items name, in sorted order. A single one is locked when its turn comes.
CREATE FUNCTION mire_internal.lock_instances(items jsonb[])
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  IF cardinality(items) > 1 THEN
    PERFORM FROM unnest(items) AS i (item)
      INNER JOIN mire.sagas AS s ON s.saga = i.item ->> 'saga' AND s.instance = i.item ->> 'instance'
      ORDER BY s.saga, s.instance
        FOR NO KEY UPDATE OF s;
  END IF;
END
$$;

-- record_fact: appends one fact to an instance whose row the caller has locked. appended, or duplicate when an event with
-- this id is in the stream already; version: that event's.
-- Locks: the stream's row, then the in-flight lock.   Raises: nothing of its own.
CREATE FUNCTION mire_internal.record_fact(held mire.sagas, type text, fact jsonb, event_id uuid)
RETURNS mire.batch_result LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  stream CONSTANT text := mire_internal.saga_stream(held.saga, held.instance);
  head CONSTANT mire_internal.locked_stream := mire_internal.lock_stream(stream, to_create => false);
  moment CONSTANT timestamptz := clock_timestamp();
  written mire.batch_result;
BEGIN
  IF event_id IS NOT NULL THEN
    SELECT e.version INTO written.version
      FROM mire.events AS e
     WHERE e.stream_no = head.stream_no AND e.event_id = record_fact.event_id
     LIMIT 1;
    IF FOUND THEN
      PERFORM mire_internal.make_durable();
      written.outcome := 'duplicate';
      RETURN written;
    END IF;
  END IF;

  written := mire_internal.write_events(
    stream, head, NULL, ARRAY[type], ARRAY[jsonb_build_object('facts', jsonb_build_array(fact))], NULL, ARRAY[event_id], 1, 1);
  IF held.status <> 'parked' AND coalesce(held.due_at > moment, true) THEN
    UPDATE mire.sagas AS s SET due_at = moment WHERE s.saga = held.saga AND s.instance = held.instance;
  END IF;
  RETURN written;
END
$$;

-- record_item: an item of saga_deliver or saga_signal that has nothing wrong with it.
CREATE FUNCTION mire_internal.record_item(item integer, saga text, instance text, type text, fact jsonb, event_id uuid)
RETURNS mire.saga_result LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  held mire.sagas;
  written mire.batch_result;
  result mire.saga_result;
BEGIN
  result.item := item;
  SELECT s.* INTO held
    FROM mire.sagas AS s
   WHERE s.saga = record_item.saga AND s.instance = record_item.instance
     FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    result.outcome := 'not_found';
  ELSIF held.pruned THEN
    result.outcome := 'pruned';
  ELSE
    written := mire_internal.record_fact(held, type, fact, event_id);
    result.outcome := CASE written.outcome WHEN 'appended' THEN 'delivered' ELSE 'duplicate' END;
    result.version := written.version;
  END IF;
  RETURN result;
END
$$;
