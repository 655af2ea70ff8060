-- saga_cancel: asks an instance to turn back and end. A parked one does so when it is resumed.
-- Locks and raises: as operate; MI009 when it has ended.
CREATE FUNCTION mire.saga_cancel(saga text, instance text, reason text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.operate(saga, instance, 'cancelled', '{running,parked,compensating,intervention}',
    jsonb_build_object('fact', 'cancel_requested', 'reason', coalesce(reason, '')));
END
$$;
COMMENT ON FUNCTION mire.saga_cancel(text, text, text) IS
'Cancels an instance: what it has done is undone, then it ends. Recorded in its history. Raises MI008 for an unknown '
'instance, MI009 for one that has ended, MI004';
