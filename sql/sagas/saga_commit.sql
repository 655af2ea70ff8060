-- saga_commit: records what a drive decided: new facts at the expected version, under the lease's fence, with the messages
-- to send, those to take back, and when the instance is due again. Each item lands whole or not at all and has an outcome of
-- its own; no item's outcome stops another, and none waits for anybody.
-- Locks: the instances' rows without waiting (who holds one makes its item busy), the streams' rows, the in-flight lock,
-- rows of the outbox without waiting, all until commit. Bounds the transaction's idle time by the ttl.
-- Raises: MI004 when items has another shape than a list, or for a bad holder; 22023 for a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.saga_commit(items jsonb[], holder text, ttl interval)
RETURNS SETOF mire.saga_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  item jsonb;
  number integer := 0;
BEGIN
  PERFORM mire_internal.check_items(items);
  PERFORM mire_internal.check_name('holder', holder);
  ttl := mire_internal.check_ttl(ttl);
  PERFORM mire_internal.make_durable();
  PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM ttl) * 1000)::bigint);
  FOREACH item IN ARRAY items LOOP
    number := number + 1;
    RETURN NEXT mire_internal.commit_item(mire_internal.change_of(item, 'commit'), holder, ttl, number);
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.saga_commit(jsonb[], text, interval) IS
'Commits what was decided about instances. An item: {"saga", "instance", "version", "fence"?, "facts", "status", "steps"?, '
'"error"?, "id"?, "due_at"? (microseconds since 1970), "due_in_ms"?, "keep"?, "failed"?, "outbox"? (as in saga_start), '
'"withdraw"?: [keys], "settled"?: [keys]}. Without a fence it takes an instance that nobody holds. keep: the lease goes on for ttl '
'and due_at stays; else it is released and due as said (never, when not said). No facts: nothing is appended. withdraw: '
'messages never claimed are deleted, others are in doubt. failed: counts an attempt. Outcomes: committed, duplicate (the same '
'id stands there already), conflict (version: the actual one), lease_lost, leased, busy, not_found, pruned, invalid. Raises MI004, 22023';

CREATE FUNCTION mire_internal.commit_item(change mire_internal.saga_change, holder text, ttl interval, item integer)
RETURNS mire.saga_result LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  result mire.saga_result;
  now_held mire.sagas;
  head mire_internal.locked_stream;
  moment timestamptz;
BEGIN
  result.item := item;
  IF change.fault IS NOT NULL THEN
    result.outcome := 'invalid';
    result.reason := change.fault;
    RETURN result;
  END IF;

  SELECT s.* INTO now_held
    FROM mire.sagas AS s
   WHERE s.saga = change.saga AND s.instance = change.instance
     FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    result.outcome := CASE WHEN EXISTS (
      SELECT FROM mire.sagas AS s WHERE s.saga = change.saga AND s.instance = change.instance) THEN 'busy' ELSE 'not_found' END;
    RETURN result;
  ELSIF now_held.pruned THEN
    result.outcome := 'pruned';
    RETURN result;
  END IF;

  head := mire_internal.lock_stream(change.stream, to_create => false);
  moment := clock_timestamp();
  result.version := head.version;
  IF head.version > change.version AND change.event_id IS NOT NULL AND EXISTS (
    SELECT FROM mire.events AS e
     WHERE e.stream_no = head.stream_no AND e.version = change.version + 1 AND e.event_id = change.event_id) THEN
    result.outcome := 'duplicate';
    result.version := change.version + 1;
    result.fence := CASE WHEN now_held.fence = change.fence AND now_held.lease_expires_at > moment THEN change.fence END;
    RETURN result;
  ELSIF change.fence IS NULL AND now_held.lease_expires_at > moment THEN
    result.outcome := 'leased';
    result.reason := format('by %s', now_held.holder);
    RETURN result;
  ELSIF change.fence IS NOT NULL AND (now_held.fence <> change.fence OR now_held.lease_expires_at <= moment) THEN
    result.outcome := 'lease_lost';
    result.reason := CASE WHEN now_held.fence <> change.fence THEN format('superseded by fence %s', now_held.fence)
                          ELSE 'expired or released' END;
    RETURN result;
  ELSIF head.version <> change.version THEN
    result.outcome := 'conflict';
    RETURN result;
  END IF;

  IF change.outbox IS NOT NULL OR change.withdraw <> '{}' OR change.settled <> '{}' THEN
    result.outcome := mire_internal.change_outbox(change, head.stream_no);
    IF result.outcome IS NOT NULL THEN
      IF result.outcome = 'invalid' THEN
        result.reason := 'outbox: a key stands there already';
      END IF;
      RETURN result;
    END IF;
  END IF;

  IF change.facts <> '[]' THEN
    result.version := (mire_internal.write_events(
      change.stream, head, change.version,
      ARRAY[CASE WHEN mire_internal.saga_ended(change.status) THEN '$saga_ended' ELSE '$saga_advanced' END],
      ARRAY[jsonb_build_object('facts', change.facts)], NULL, ARRAY[change.event_id], 1, 1)).version;
  END IF;

  result.outcome := 'committed';
  IF change.keep THEN
    -- A lease taken here is found again by due_at, as one from saga_claim is; after that due_at stays: HOT.
    result.fence := coalesce(change.fence, greatest(nextval('mire.fences'), now_held.fence + 1));
    change.due_at := CASE WHEN change.fence IS NULL THEN moment + ttl ELSE now_held.due_at END;
  ELSIF mire_internal.saga_ended(change.status) AND NOT change.failed OR change.status = 'parked' THEN
    -- One that has ended and cannot be driven, for an answer that came late, is tried again like any other.
    change.due_at := NULL;
  END IF;
  UPDATE mire.sagas AS s
     SET changed_at = moment,
         lease_expires_at = CASE WHEN change.keep THEN moment + ttl ELSE '-infinity' END,
         fence = coalesce(result.fence, s.fence),
         due_at = change.due_at,
         ended_at = CASE WHEN mire_internal.saga_ended(change.status) THEN coalesce(s.ended_at, moment) END,
         attempts = CASE WHEN change.failed THEN s.attempts + 1 ELSE 0 END,
         holder = CASE WHEN change.keep THEN commit_item.holder END,
         status = change.status,
         steps = change.steps,
         error = change.error
   WHERE s.saga = change.saga AND s.instance = change.instance;
  RETURN result;
END
$$;

-- change_outbox: a commit's messages: those it takes back, those that are settled, and new ones. NULL when done; else the
-- outcome, and nothing is changed.
CREATE FUNCTION mire_internal.change_outbox(change mire_internal.saga_change, stream_no bigint)
RETURNS text LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  locked integer;
BEGIN
  IF change.outbox IS NOT NULL AND EXISTS (
    SELECT FROM mire.outbox AS o
     WHERE o.stream_no = change_outbox.stream_no
       AND o.key = ANY (ARRAY(SELECT m ->> 'key' FROM jsonb_array_elements(change.outbox) AS m))) THEN
    RETURN 'invalid';
  END IF;

  IF change.withdraw <> '{}' OR change.settled <> '{}' THEN
    SELECT count(*) INTO locked
      FROM (SELECT FROM mire.outbox AS o
             WHERE o.stream_no = change_outbox.stream_no AND o.key = ANY (change.withdraw || change.settled)
               FOR UPDATE SKIP LOCKED) AS o;
    IF locked < (SELECT count(*) FROM mire.outbox AS o
                  WHERE o.stream_no = change_outbox.stream_no AND o.key = ANY (change.withdraw || change.settled)) THEN
      RETURN 'busy';
    END IF;
    DELETE FROM mire.outbox AS o
     WHERE o.stream_no = change_outbox.stream_no
       AND (o.key = ANY (change.settled) AND o.status <> 'dead'
            OR o.key = ANY (change.withdraw) AND o.status = 'pending' AND o.fence = 0);
    UPDATE mire.outbox AS o
       SET status = 'in_doubt'
     WHERE o.stream_no = change_outbox.stream_no AND o.key = ANY (change.withdraw) AND o.status IN ('pending', 'sent');
  END IF;

  IF change.outbox IS NOT NULL THEN
    PERFORM mire_internal.send_messages(change, change_outbox.stream_no);
  END IF;
  RETURN NULL;
END
$$;
