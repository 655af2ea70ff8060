-- report_failure: what a worker does with an event it cannot handle. 'note' only shows the error in subscription_status;
-- 'stop' also pauses the subscription; 'park' puts the event aside with its stream held back, so that the worker may
-- checkpoint past it and go on with other streams.
-- Locks: the lease's row (KEY SHARE) and the checkpoint's, until commit.   Raises: MI003, MI004, 42704, 22023.
CREATE FUNCTION mire.report_failure(
  name text, partition integer, fence bigint, "position" bigint, error text, attempts integer, action text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  subscription mire.subscriptions;
  progress mire.checkpoints;
BEGIN
  PERFORM mire_internal.check_count('attempts', attempts);
  IF action IS NULL OR action NOT IN ('note', 'stop', 'park') THEN
    PERFORM mire_internal.raise_out_of_range('action', '''note'', ''stop'' or ''park''');
  ELSIF error IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'error', 'is null');
  END IF;
  progress := mire_internal.enter_partition(name, partition, fence, heartbeat => false);
  subscription := mire_internal.find_subscription(name, partition);
  IF report_failure.position IS NULL OR report_failure.position NOT BETWEEN 1 AND progress.handed_out THEN
    PERFORM mire_internal.raise_out_of_range('position',
      format('from 1 to %s (handed out under this fence)', progress.handed_out));
  END IF;

  PERFORM mire_internal.make_durable();
  UPDATE mire.checkpoints AS c
     SET last_error = left(error, 2000), failed_at = clock_timestamp()
   WHERE c.name = report_failure.name AND c.generation = subscription.generation AND c.partition = report_failure.partition;
  IF action = 'stop' THEN
    UPDATE mire.subscriptions AS s SET paused = true WHERE s.name = report_failure.name;
  ELSIF action = 'park' THEN
    -- Parked from an event on that is checkpointed already, the stream's later ones would be handled twice.
    IF EXISTS (
      SELECT FROM mire.events AS e
       WHERE e.position = report_failure.position
         AND (e.stream_no % subscription.partitions <> report_failure.partition
              OR e.position <= progress.checkpoint AND NOT EXISTS (
                   SELECT FROM mire.parked_events AS p
                    WHERE p.name = report_failure.name AND p.stream_no = e.stream_no))) THEN
      PERFORM mire_internal.raise_out_of_range('position',
        format('of an event in partition %s after %s (the checkpoint), or of a parked stream', partition, progress.checkpoint));
    END IF;
    INSERT INTO mire.parked_events AS p (name, stream_no, position, error, attempts)
    SELECT report_failure.name, e.stream_no, e.position, left(report_failure.error, 2000), report_failure.attempts
      FROM mire.events AS e
     WHERE e.position = report_failure.position AND e.stream_no % subscription.partitions = report_failure.partition
    -- A stream that was retried is parked again; one that is parked already waits with its first event.
    ON CONFLICT ON CONSTRAINT parked_events_pkey DO UPDATE
      SET position = excluded.position, error = excluded.error, retry = false,
          attempts = least(p.attempts::bigint + excluded.attempts, 2147483647)
      WHERE p.retry AND excluded.position >= p.position;
  END IF;
END
$$;
COMMENT ON FUNCTION mire.report_failure(text, integer, bigint, bigint, text, integer, text) IS
'Tells that a handler failed on an event that was handed out. action: ''note'' shows the error in subscription_status, '
'''stop'' also pauses the subscription, ''park'' puts the event aside: later events of its stream are held back (skip '
'those already in hand), and the worker may checkpoint past it. Raises MI003 when the lease is lost, 42704, 22023';

-- retry_parked, skip_parked: what an operator decides about a parked stream: handle its events again from the parked one
-- on, or from the next one on. The partition's worker gets them from fetch_parked.
-- Locks: the parked event's row, until commit.   Raises: 42704 when that stream is not parked there; skip_parked 55000 when
-- it is being retried already.
CREATE FUNCTION mire_internal.decide_parked(name text, stream text, skip boolean)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  parked mire.parked_events;
BEGIN
  PERFORM mire_internal.make_durable();
  SELECT p.* INTO parked
    FROM mire.parked_events AS p
   WHERE p.name = decide_parked.name
     AND p.stream_no = (SELECT s.stream_no FROM mire.stream_heads AS s WHERE s.stream = decide_parked.stream)
     FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_not_parked(name, stream);
  ELSIF skip AND parked.retry THEN
    -- A worker may be past the event that was skipped: skipping now would give up one that nobody has seen fail.
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('stream "%s" is being retried already', stream),
      DETAIL = jsonb_build_object('subscription', name, 'stream', stream)::text,
      HINT = 'If it fails again, it is parked again and can be skipped then.';
  END IF;
  UPDATE mire.parked_events AS p
     SET retry = true, position = p.position + skip::integer
   WHERE p.name = decide_parked.name AND p.stream_no = parked.stream_no;
END
$$;

CREATE FUNCTION mire_internal.raise_not_parked(name text, stream text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'undefined_object',
    MESSAGE = format('stream "%s" is not parked in subscription "%s"', stream, name),
    DETAIL = jsonb_build_object('subscription', name, 'stream', stream)::text,
    HINT = 'mire.subscription_errors lists what is parked.';
END
$$;

CREATE FUNCTION mire.retry_parked(name text, stream text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  PERFORM mire_internal.decide_parked(name, stream, false);
END
$$;
COMMENT ON FUNCTION mire.retry_parked(text, text) IS
'Has a parked stream''s events handled again, in order, from the parked one on. For admins. Raises 42704';

CREATE FUNCTION mire.skip_parked(name text, stream text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  PERFORM mire_internal.decide_parked(name, stream, true);
END
$$;
COMMENT ON FUNCTION mire.skip_parked(text, text) IS
'Gives a parked event up and has the rest of its stream handled, in order. For admins. Raises 42704; 55000 when the stream '
'is being retried already';
