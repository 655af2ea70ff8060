-- saga_skip: has an undo that failed counted as skipped, so that the instance can go on.
-- Locks and raises: as operate; MI009 when it has ended.
CREATE FUNCTION mire.saga_skip(saga text, instance text, step text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  IF step IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'step', 'is null');
  END IF;
  PERFORM mire_internal.operate(saga, instance, 'changed', '{running,compensating,parked,intervention}',
    jsonb_build_object('fact', 'skip_requested', 'step', step));
END
$$;
COMMENT ON FUNCTION mire.saga_skip(text, text, text) IS
'Has a step whose undo failed counted as skipped (not as undone), so that the instance can go on. Recorded in its history. For '
'admins. Raises MI008 for an unknown instance, MI009 for one that has ended, MI004';
