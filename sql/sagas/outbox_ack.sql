-- outbox_ack: tells what became of messages that were claimed; a response becomes the step's answer in this same transaction.
-- Each item has an outcome of its own.
-- Locks: the rows of instances that are told something, in sorted order, each waiting for whoever holds it; then streams' rows,
-- the in-flight lock and, without waiting, the messages' rows, until commit.
-- Raises: MI004 when items has another shape than a list.
CREATE FUNCTION mire.outbox_ack(items jsonb[])
RETURNS SETOF mire.saga_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  item jsonb;
  number integer := 0;
  fault text;
BEGIN
  PERFORM mire_internal.check_items(items);
  PERFORM mire_internal.make_durable();
  PERFORM FROM unnest(items) AS i (item)
    INNER JOIN mire.outbox AS o
       ON o.message_no = CASE WHEN i.item ->> 'message_no' ~ '^[0-9]{1,18}$' THEN (i.item ->> 'message_no')::bigint END
    INNER JOIN mire.sagas AS s ON s.saga = o.saga AND s.instance = o.instance
    WHERE i.item ? 'response' OR i.item ->> 'outcome' = 'dead'
    ORDER BY s.saga, s.instance
      FOR NO KEY UPDATE OF s;
  FOREACH item IN ARRAY items LOOP
    number := number + 1;
    fault := coalesce(
      mire_internal.item_fault(item::text, 'ack'),
      mire_internal.size_fault('response: response', item -> 'response'));
    IF fault IS NOT NULL THEN
      RETURN NEXT ROW(number, 'invalid', NULL, NULL, fault)::mire.saga_result;
    ELSE
      RETURN NEXT mire_internal.ack_item(number, (item ->> 'message_no')::bigint, (item ->> 'fence')::bigint, item ->> 'outcome',
        (item ->> 'delay_ms')::bigint, item ->> 'error', nullif(item -> 'response', 'null'));
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.outbox_ack(jsonb[]) IS
'What became of claimed messages. An item: {"message_no", "fence", "outcome": "sent", "retry" or "dead", "delay_ms"? (of a retry; '
'else from 1 second on, doubling up to 5 minutes; 0 without an error hands it back untried, which is no attempt), "error"?, '
'"response"?: {"ok"?, "type"?, "data"?, "error"?, "id"?}}. A response is the step''s answer. dead: nobody will send it '
'(outbox_retry), and the step has failed. Outcomes: sent, retried, dead, lease_lost, not_found (settled or acknowledged before), '
'busy, invalid. Raises MI004';

CREATE FUNCTION mire_internal.ack_item(
  item integer, message_no bigint, fence bigint, outcome text, delay_ms bigint, error text, response jsonb)
RETURNS mire.saga_result LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  result mire.saga_result;
  message mire.outbox;
  held mire.sagas;
BEGIN
  result.item := item;
  IF response IS NOT NULL OR outcome = 'dead' THEN
    SELECT s.* INTO held
      FROM mire.sagas AS s
     WHERE (s.saga, s.instance) = (SELECT o.saga, o.instance FROM mire.outbox AS o WHERE o.message_no = ack_item.message_no)
       FOR NO KEY UPDATE;
  END IF;
  SELECT o.* INTO message
    FROM mire.outbox AS o
   WHERE o.message_no = ack_item.message_no
     FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    result.outcome := CASE WHEN EXISTS (
      SELECT FROM mire.outbox AS o WHERE o.message_no = ack_item.message_no) THEN 'busy' ELSE 'not_found' END;
    RETURN result;
  ELSIF message.fence <> ack_item.fence OR message.fence = 0 THEN
    result.outcome := 'lease_lost';
    result.reason := format('superseded by fence %s', message.fence);
    RETURN result;
  END IF;

  result.outcome := CASE outcome WHEN 'retry' THEN 'retried' ELSE outcome END;
  IF response IS NOT NULL THEN
    IF held.saga IS NOT NULL AND NOT held.pruned THEN
      -- Without an id of its own an answer has the message's key: acknowledged again, it is recorded once.
      result.version := (mire_internal.record_fact(held, '$saga_answered',
        mire_internal.answered_fact(message.step, message.undo, message.activation, message.request, response),
        mire_internal.saga_event_id('answer', coalesce(response ->> 'id', message.key)))).version;
    END IF;
    DELETE FROM mire.outbox AS o WHERE o.message_no = ack_item.message_no;
  ELSIF outcome = 'sent' AND message.status = 'pending' AND (NOT message.awaited OR EXISTS (
    SELECT FROM mire.sagas AS s
     WHERE s.saga = message.saga AND s.instance = message.instance AND s.ended_at IS NOT NULL)) THEN
    -- Nobody will settle it.
    DELETE FROM mire.outbox AS o WHERE o.message_no = ack_item.message_no;
  ELSIF outcome = 'retry' AND message.status = 'pending' THEN
    UPDATE mire.outbox AS o
       SET due_at = clock_timestamp() + interval '1 millisecond'
                  * coalesce(delay_ms, least(1000 * 2 ^ least(message.attempts - 1, 20), 300000)),
           -- Handed back untried: somebody takes it who has the same patience left.
           attempts = o.attempts - (coalesce(delay_ms, 1) = 0 AND ack_item.error IS NULL AND o.holder IS NOT NULL)::integer,
           lease_expires_at = '-infinity', holder = NULL, error = coalesce(ack_item.error, o.error)
     WHERE o.message_no = ack_item.message_no;
  ELSE
    -- One that was withdrawn meanwhile stays in doubt.
    UPDATE mire.outbox AS o
       SET status = CASE WHEN o.status = 'pending' THEN outcome ELSE o.status END,
           lease_expires_at = '-infinity', holder = NULL, error = coalesce(ack_item.error, o.error)
     WHERE o.message_no = ack_item.message_no;
    IF outcome = 'dead' AND message.status = 'pending' AND message.awaited AND held.saga IS NOT NULL AND NOT held.pruned THEN
      result.version := (mire_internal.record_fact(held, '$saga_answered',
        mire_internal.answered_fact(message.step, message.undo, message.activation, message.request,
          jsonb_build_object('ok', false, 'error', coalesce(ack_item.error, 'nobody could send it'))),
        mire_internal.saga_event_id('dead', format('%s/%s', message.key, message.fence)))).version;
    END IF;
  END IF;
  RETURN result;
END
$$;
