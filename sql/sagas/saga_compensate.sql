-- saga_compensate: forces an instance to turn back, as if a step had failed; also one that has completed.
-- Locks and raises: as operate; MI009 unless it is running, parked or completed.
CREATE FUNCTION mire.saga_compensate(saga text, instance text, reason text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.operate(saga, instance, 'compensated', '{running,parked,completed}',
    jsonb_build_object('fact', 'compensation_requested', 'reason', coalesce(reason, '')));
END
$$;
COMMENT ON FUNCTION mire.saga_compensate(text, text, text) IS
'Forces an instance to turn back, also a completed one: what it has done is undone. Recorded in its history. For admins. Raises '
'MI008 for an unknown instance, MI009 unless it is running, parked or completed, MI004';
