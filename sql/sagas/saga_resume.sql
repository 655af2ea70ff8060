-- saga_resume: has a parked instance driven on, with the answers and signals that came meanwhile.
-- Locks and raises: as operate; MI009 unless it is parked.
CREATE FUNCTION mire.saga_resume(saga text, instance text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  held mire.sagas;
BEGIN
  held := mire_internal.operate(saga, instance, 'resumed', '{parked}', jsonb_build_object('fact', 'resumed'));
  -- The next commit says which status it really has.
  UPDATE mire.sagas AS s
     SET status = CASE WHEN EXISTS (
           SELECT FROM mire.events AS e
            WHERE e.stream_no = held.stream_no AND e.data @? '$.facts[*] ? (@.fact == "compensation_started")'
         ) THEN 'compensating' ELSE 'running' END,
         due_at = clock_timestamp(), changed_at = clock_timestamp(), attempts = 0, error = NULL
   WHERE s.saga = saga_resume.saga AND s.instance = saga_resume.instance;
END
$$;
COMMENT ON FUNCTION mire.saga_resume(text, text) IS
'Has a parked instance driven on. Recorded in its history. For admins. Raises MI008 for an unknown instance, MI009 unless it is parked';
