-- saga_signal: signals to instances. Each item has an outcome of its own.
-- Locks and raises: as saga_deliver.
CREATE FUNCTION mire.saga_signal(items jsonb[])
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
    fault := mire_internal.item_fault(item::text, 'signal');
    IF fault IS NULL THEN
      fact := jsonb_build_object('fact', 'signalled', 'signal', item ->> 'signal', 'data', coalesce(item -> 'data', 'null'))
           || jsonb_strip_nulls(jsonb_build_object('id', item ->> 'id'));
      fault := mire_internal.size_fault('signal', fact);
    END IF;
    IF fault IS NOT NULL THEN
      RETURN NEXT ROW(number, 'invalid', NULL, NULL, fault)::mire.saga_result;
    ELSE
      RETURN NEXT mire_internal.record_item(number, item ->> 'saga', item ->> 'instance', '$saga_signalled', fact,
        mire_internal.saga_event_id('signal', item ->> 'id'));
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.saga_signal(jsonb[]) IS
'Signals to instances. An item: {"saga", "instance", "signal", "data"?, "id"?}. The same id twice is recorded once. Outcomes: '
'delivered, duplicate, not_found, pruned, invalid. Raises MI004';
