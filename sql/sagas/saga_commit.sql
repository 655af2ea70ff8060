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
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  PERFORM mire_internal.check_items(items);
  PERFORM mire_internal.check_name('holder', holder);
  ttl := mire_internal.check_ttl(ttl);
  PERFORM mire_internal.make_durable();
  PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM ttl) * 1000)::bigint);
  RETURN QUERY SELECT r.* FROM mire_internal.commit_items(items, holder, mire_internal.microseconds(ttl)) AS r;
END
$$;
COMMENT ON FUNCTION mire.saga_commit(jsonb[], text, interval) IS
'Commits what was decided about instances. An item: {"saga", "instance", "version", "fence"?, "facts", "status", "steps"?, '
'"error"?, "id"?, "due_at"? (microseconds since 1970), "due_in_ms"?, "keep"?, "failed"?, "outbox"? (as in saga_start), '
'"withdraw"?: [keys], "settled"?: [keys]}. Without a fence it takes an instance that nobody holds. keep: the lease goes on for ttl '
'and due_at stays; else it is released and due as said (never, when not said). No facts: nothing is appended. withdraw: '
'messages never claimed are deleted, others are in doubt. failed: counts an attempt. Outcomes: committed, duplicate (the same '
'id stands there already), conflict (version: the actual one), lease_lost, leased, busy, not_found, pruned, invalid. Raises MI004, 22023';

-- stands_at: whether a stream has an event with this id at this version.
CREATE FUNCTION mire_internal.stands_at(stream_no bigint, version bigint, event_id uuid)
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM mire.events AS e
     WHERE e.stream_no = stands_at.stream_no AND e.version = stands_at.version AND e.event_id = stands_at.event_id);
END
$$;

-- change_outbox: a commit's messages: those it takes back, those that are settled, and new ones; NULL: none. NULL when done;
-- else the outcome, and nothing is changed.
CREATE FUNCTION mire_internal.change_outbox(
  stream_no bigint, saga text, instance text, outbox jsonb, withdraw text[], settled text[])
RETURNS text LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  taken CONSTANT text[] := withdraw || settled;
  locked integer;
BEGIN
  IF outbox IS NOT NULL AND EXISTS (
    SELECT FROM mire.outbox AS o
     WHERE o.stream_no = change_outbox.stream_no
       AND o.key = ANY (ARRAY(SELECT m ->> 'key' FROM jsonb_array_elements(outbox) AS m))) THEN
    RETURN 'invalid';
  END IF;

  IF taken IS NOT NULL THEN
    SELECT count(*) INTO locked
      FROM (SELECT FROM mire.outbox AS o
             WHERE o.stream_no = change_outbox.stream_no AND o.key = ANY (taken)
               FOR UPDATE SKIP LOCKED) AS o;
    IF locked < (SELECT count(*) FROM mire.outbox AS o
                  WHERE o.stream_no = change_outbox.stream_no AND o.key = ANY (taken)) THEN
      RETURN 'busy';
    END IF;
    DELETE FROM mire.outbox AS o
     WHERE o.stream_no = change_outbox.stream_no
       AND (o.key = ANY (settled) AND o.status <> 'dead'
            OR o.key = ANY (withdraw) AND o.status = 'pending' AND o.fence = 0);
    IF withdraw IS NOT NULL THEN
      UPDATE mire.outbox AS o
         SET status = 'in_doubt'
       WHERE o.stream_no = change_outbox.stream_no AND o.key = ANY (withdraw) AND o.status IN ('pending', 'sent');
    END IF;
  END IF;

  IF outbox IS NOT NULL THEN
    INSERT INTO mire.outbox (stream_no, due_at, request, activation, undo, saga, instance, step, key, kind, data)
    SELECT change_outbox.stream_no, clock_timestamp(), coalesce((m.message ->> 'request')::integer, 0),
           (m.message ->> 'activation')::integer, coalesce((m.message ->> 'undo')::boolean, false),
           change_outbox.saga, change_outbox.instance, m.message ->> 'step', m.message ->> 'key', m.message ->> 'kind',
           coalesce(m.message -> 'data', 'null')
      FROM jsonb_array_elements(outbox) WITH ORDINALITY AS m (message, ord)
     ORDER BY m.ord;
  END IF;
  RETURN NULL;
END
$$;
