-- saga_prune: erases the histories and messages of instances that ended long ago. Their rows stay: a replayed trigger starts
-- none of them again. Nothing pending is pruned: an instance with an answer to look at, a holder, or messages that are to be
-- sent or answered is left alone.
-- Locks: the instances' rows without waiting (SKIP LOCKED), the streams' rows, the in-flight lock, until commit.
-- Raises: 0A000 in REPEATABLE READ and SERIALIZABLE; 22023 for a count below 1, or an age outside 0 to 100 years.
CREATE FUNCTION mire.saga_prune(older_than interval, max_count integer DEFAULT 1000)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  held mire.sagas;
  pruned bigint := 0;
  ended_before CONSTANT timestamptz := clock_timestamp() - mire_internal.check_age('older_than', older_than);
BEGIN
  PERFORM mire_internal.check_count('max_count', max_count);
  PERFORM mire_internal.require_read_committed('saga_prune');
  FOR held IN
    SELECT s.*
      FROM mire.sagas AS s
     WHERE s.ended_at < ended_before AND NOT s.pruned AND s.due_at IS NULL AND s.lease_expires_at <= clock_timestamp()
       AND NOT EXISTS (SELECT FROM mire.outbox AS o WHERE o.stream_no = s.stream_no AND o.status IN ('pending', 'sent'))
     ORDER BY s.ended_at
     LIMIT max_count
       FOR NO KEY UPDATE SKIP LOCKED
  LOOP
    PERFORM mire_internal.erase_instance(held);
    pruned := pruned + 1;
  END LOOP;
  RETURN pruned;
END
$$;
COMMENT ON FUNCTION mire.saga_prune(interval, integer) IS
'Erases the histories of at most max_count instances that ended longer ago than older_than, and their dead and doubtful messages; '
'returns how many. Their names stay taken. Nothing pending is pruned. For admins. Raises 22023, 0A000';

CREATE FUNCTION mire_internal.erase_instance(held mire.sagas)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  stream CONSTANT text := mire_internal.saga_stream(held.saga, held.instance);
  head CONSTANT mire_internal.locked_stream := mire_internal.lock_stream(stream, to_create => false);
BEGIN
  PERFORM mire_internal.erase(stream, head, head.version + 1, '$stream_truncated');
  DELETE FROM mire.outbox AS o WHERE o.stream_no = held.stream_no;
  UPDATE mire.sagas AS s
     SET pruned = true, steps = '{}', changed_at = clock_timestamp()
   WHERE s.saga = held.saga AND s.instance = held.instance;
END
$$;

-- check_age: gives an age as plain seconds, as check_ttl does.
CREATE FUNCTION mire_internal.check_age(field text, age interval)
RETURNS interval LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  seconds CONSTANT numeric := extract(epoch FROM age);
BEGIN
  IF age IS NULL OR seconds < 0 OR seconds > 3155760000 THEN
    PERFORM mire_internal.raise_out_of_range(field, 'from 0 to 100 years');
  END IF;
  RETURN make_interval(secs => seconds::double precision);
END
$$;
