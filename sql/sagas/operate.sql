-- operate: what the operators' calls share: locks an instance, refuses what makes no sense in its status, and records the
-- fact with who asked for it. Gives the instance as it was before.
-- Locks: the instance's row, waiting for whoever holds it, then the stream's row and the in-flight lock, until commit.
-- Raises: MI008 for an unknown instance; MI009 unless it has one of these statuses; MI004 for a reason that is no fact.
CREATE FUNCTION mire_internal.operate(saga text, instance text, action text, statuses text[], fact jsonb)
RETURNS mire.sagas LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  held mire.sagas;
  fault CONSTANT text := coalesce(
    mire_internal.size_fault('reason', fact),
    CASE WHEN fact ->> 'step' IS NOT NULL THEN mire_internal.label_fault('step', fact ->> 'step') END);
BEGIN
  IF fault IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, split_part(fault, ' ', 1), substr(fault, strpos(fault, ' ') + 1));
  END IF;
  SELECT s.* INTO held
    FROM mire.sagas AS s
   WHERE s.saga = operate.saga AND s.instance = operate.instance
     FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_saga_not_found(saga, instance);
  ELSIF held.pruned THEN
    PERFORM mire_internal.raise_saga_state(saga, instance, 'pruned', action);
  ELSIF held.status <> ALL (statuses) THEN
    PERFORM mire_internal.raise_saga_state(saga, instance, held.status, action);
  END IF;
  PERFORM mire_internal.record_fact(held, '$saga_operated', fact || jsonb_build_object('by', session_user), NULL);
  RETURN held;
END
$$;

-- take_from_holder: ends whatever lease an instance is under: its holder's commits are refused from now on.
CREATE FUNCTION mire_internal.take_from_holder(held mire.sagas)
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
  UPDATE mire.sagas AS s
     SET fence = greatest(nextval('mire.fences'), s.fence + 1), lease_expires_at = '-infinity', holder = NULL,
         changed_at = clock_timestamp()
   WHERE s.saga = held.saga AND s.instance = held.instance
$$;
