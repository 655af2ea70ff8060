-- reset_subscription: moves every checkpoint of a subscription, back or forward, and supersedes whoever is at work.
-- Locks: the checkpoints' rows and the subscription's, until commit; waits for workers' transactions.
-- Raises: 42704, 22023.
CREATE FUNCTION mire.reset_subscription(name text, "position" bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  subscription mire.subscriptions;
BEGIN
  PERFORM mire_internal.check_position('position', reset_subscription.position);
  subscription := mire_internal.lock_subscription(name);
  IF subscription.name IS NULL THEN
    PERFORM mire_internal.raise_no_subscription(name);
  ELSIF reset_subscription.position > mire_internal.head_position() THEN
    PERFORM mire_internal.raise_out_of_range('position', format('at most %s, the last one handed out', mire_internal.head_position()));
  END IF;
  PERFORM mire_internal.make_durable();
  UPDATE mire.checkpoints AS c
     SET checkpoint = reset_subscription.position, handed_out = reset_subscription.position, fence = 0,
         checkpointed_at = clock_timestamp(), last_error = NULL, failed_at = NULL
   WHERE c.name = reset_subscription.name AND c.generation = subscription.generation;
  DELETE FROM mire.parked_events AS p WHERE p.name = reset_subscription.name;
END
$$;
COMMENT ON FUNCTION mire.reset_subscription(text, bigint) IS
'Moves every checkpoint of a subscription to a position (0: the beginning), forgets its parked events and supersedes its '
'workers (their next call raises MI003). Empty the read model in the same transaction. For admins. Raises 42704, 22023';

-- drop_subscription: forgets a subscription with its checkpoints and parked events. False when there was none.
-- Locks: its rows, until commit; waits for workers' transactions.   Raises: nothing.
CREATE FUNCTION mire.drop_subscription(name text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  subscription CONSTANT mire.subscriptions := mire_internal.lock_subscription(name);
BEGIN
  -- One that was made since then has been locked by nobody, and its workers lock from the other side.
  IF subscription.name IS NULL THEN
    RETURN false;
  END IF;
  PERFORM mire_internal.make_durable();
  DELETE FROM mire.subscriptions AS s WHERE s.name = drop_subscription.name;
  PERFORM mire_internal.forget_leases(name, 2147483647);
  DELETE FROM mire.leases AS l
   WHERE l.resource = ANY (ARRAY(
           SELECT worker.resource
             FROM mire.leases AS worker
            WHERE worker.resource >= '$worker/' || name || '/' AND worker.resource < '$worker/' || name || '0'
              AND worker.resource = mire_internal.worker_resource(name, worker.holder)
              FOR UPDATE SKIP LOCKED));
  RETURN true;
END
$$;
COMMENT ON FUNCTION mire.drop_subscription(text) IS
'Forgets a subscription with its checkpoints and parked events; its workers'' next call raises 42704. False when there '
'was none. For admins';

-- pause_subscription, resume_subscription: whether fetch_events hands anything out. Workers keep their partitions.
-- Locks: the subscription's row, until commit.   Raises: 42704.
CREATE FUNCTION mire_internal.set_paused(name text, paused boolean)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  PERFORM mire_internal.make_durable();
  UPDATE mire.subscriptions AS s SET paused = set_paused.paused WHERE s.name = set_paused.name;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_no_subscription(name);
  END IF;
END
$$;

CREATE FUNCTION mire.pause_subscription(name text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.set_paused(name, true);
END
$$;
COMMENT ON FUNCTION mire.pause_subscription(text) IS
'fetch_events hands out nothing until resume_subscription; what was handed out may still be checkpointed. For admins';

CREATE FUNCTION mire.resume_subscription(name text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.set_paused(name, false);
END
$$;
COMMENT ON FUNCTION mire.resume_subscription(text) IS 'Ends a pause, also one that report_failure made. For admins';
