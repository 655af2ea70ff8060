-- saga_park: sets an instance aside: nobody claims it, and whoever holds it cannot commit any more. Answers and signals are
-- kept in its history until it is resumed.
-- Locks and raises: as operate; MI009 when it has ended or is parked already.
CREATE FUNCTION mire.saga_park(saga text, instance text, reason text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  held mire.sagas;
BEGIN
  held := mire_internal.operate(saga, instance, 'parked', '{running,compensating,intervention}',
    jsonb_build_object('fact', 'parked', 'reason', coalesce(reason, '')));
  PERFORM mire_internal.take_from_holder(held);
  UPDATE mire.sagas AS s
     SET status = 'parked', due_at = NULL, error = coalesce(saga_park.reason, s.error)
   WHERE s.saga = saga_park.saga AND s.instance = saga_park.instance;
END
$$;
COMMENT ON FUNCTION mire.saga_park(text, text, text) IS
'Sets an instance aside until saga_resume: nobody claims it, its holder is refused, its answers are kept. Recorded in its '
'history. For admins. Raises MI008 for an unknown instance, MI009 for one that has ended or is parked, MI004';
