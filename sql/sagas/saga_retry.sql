-- saga_retry: has an undo that failed tried again, or all of them.
-- Locks and raises: as operate; MI009 when it has ended.
CREATE FUNCTION mire.saga_retry(saga text, instance text, step text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.operate(saga, instance, 'retried', '{running,compensating,parked,intervention}',
    jsonb_build_object('fact', 'retry_requested', 'step', step));
END
$$;
COMMENT ON FUNCTION mire.saga_retry(text, text, text) IS
'Has a step whose undo failed tried again; no step: every one that failed. Recorded in the instance''s history. For admins. '
'Raises MI008 for an unknown instance, MI009 for one that has ended, MI004';
