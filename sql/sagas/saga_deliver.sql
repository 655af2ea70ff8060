-- saga_deliver: answers from outside to steps that wait for them; early, late and repeated ones are welcome. Each item has
-- an outcome of its own.
-- Locks: the instances' rows in sorted order, each waiting for whoever holds it, then the streams' rows and the in-flight
-- lock, until commit.
-- Raises: MI004 when items has another shape than a list.
CREATE FUNCTION mire.saga_deliver(items jsonb[])
RETURNS SETOF mire.saga_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  item jsonb;
  number integer := 0;
  fact jsonb;
  fault text;
BEGIN
  PERFORM mire_internal.check_items(items);
  PERFORM mire_internal.lock_instances(items);
  FOREACH item IN ARRAY items LOOP
    number := number + 1;
    fault := mire_internal.item_fault(item::text, 'deliver');
    IF fault IS NULL THEN
      fact := mire_internal.answered_fact(
        item ->> 'step', (item ->> 'undo')::boolean, (item ->> 'activation')::integer, (item ->> 'request')::integer, item);
      fault := mire_internal.size_fault('answer', fact);
    END IF;
    IF fault IS NOT NULL THEN
      RETURN NEXT ROW(number, 'invalid', NULL, NULL, fault)::mire.saga_result;
    ELSE
      RETURN NEXT mire_internal.record_item(number, item ->> 'saga', item ->> 'instance', '$saga_answered', fact,
        mire_internal.saga_event_id('answer', item ->> 'id'));
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.saga_deliver(jsonb[]) IS
'Answers to steps. An item: {"saga", "instance", "step", "undo"?, "activation"?, "request"?, "ok"? (true unless said otherwise), '
'"type"?, "data"?, "error"?, "id"?}. The same id twice is recorded once. An ended instance takes late answers too. Outcomes: '
'delivered, duplicate, not_found, pruned, invalid. Raises MI004';

-- answered_fact: an answer as the history has it; answer: an object with ok, type, data, error, id. What is absent there is
-- absent here, to keep it short.
CREATE FUNCTION mire_internal.answered_fact(step text, undo boolean, activation integer, request integer, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN jsonb_build_object('fact', 'answered', 'step', step, 'request', coalesce(request, 0),
                            'ok', coalesce((answer ->> 'ok')::boolean, true), 'data', coalesce(answer -> 'data', 'null'))
      || jsonb_strip_nulls(jsonb_build_object('undo', nullif(undo, false), 'activation', activation, 'type', answer ->> 'type',
                                              'error', answer ->> 'error', 'id', answer ->> 'id'));
END
$$;
