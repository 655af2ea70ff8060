-- write_events: the core of every append. Decides on a stream that the caller has locked, and writes the events
-- with versions and positions in their order, or nothing. first, last: which part of the arrays is meant.
-- Locks: takes the in-flight lock before it draws the first position.   Raises: nothing; the outcome tells.
CREATE FUNCTION mire_internal.write_events(
  stream text, head mire_internal.locked_stream, expected_version bigint,
  types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer)
RETURNS mire.batch_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  total CONSTANT integer := last - first + 1;
  current CONSTANT bigint := coalesce(head.version, 0);
  result mire.batch_result;
BEGIN
  result.actual_version := current;

  IF head.deleted THEN
    result.outcome := 'deleted';
    RETURN result;
  ELSIF expected_version = -1 AND current = 0 THEN
    result.outcome := 'not_found';
    RETURN result;
  ELSIF expected_version >= 0 AND expected_version <> current THEN
    -- The same ids in the slots that follow: this is a retry, and the first answer is given again.
    IF total > 0 AND total <= current - expected_version THEN
      SELECT max(e.position) INTO result.position
        FROM generate_series(first, last) AS i
        JOIN mire.events AS e
          ON e.stream_no = head.stream_no AND e.version = expected_version + i - first + 1 AND e.event_id = ids[i]
      HAVING count(*) = total;
      IF FOUND THEN
        -- The first attempt's commit may still be on its way to a standby.
        PERFORM mire_internal.make_durable();
        result.outcome := 'duplicate';
        result.version := expected_version + total;
        RETURN result;
      END IF;
    END IF;
    result.outcome := 'conflict';
    RETURN result;
  END IF;

  result.outcome := 'appended';
  result.version := current + total;
  IF total = 0 THEN
    RETURN result;
  END IF;

  PERFORM mire_internal.check_positions(mire_internal.begin_append());
  IF total = 1 THEN
    INSERT INTO mire.events (position, stream_no, version, event_id, recorded_at, category, type, data, metadata)
    VALUES (nextval('mire.positions'), head.stream_no, result.version,
            coalesce(ids[first], mire_internal.new_event_id()), clock_timestamp(), split_part(stream, '-', 1),
            types[first], data[first], metadata[first])
    RETURNING events.position INTO result.position;
  ELSE
    -- generate_series gives its rows in order, and nothing here sorts: positions follow versions.
    WITH written AS (
      INSERT INTO mire.events (position, stream_no, version, event_id, recorded_at, category, type, data, metadata)
      SELECT nextval('mire.positions'), head.stream_no, current + i - first + 1,
             coalesce(ids[i], mire_internal.new_event_id()), clock_timestamp(), split_part(stream, '-', 1),
             types[i], data[i], metadata[i]
        FROM generate_series(first, last) AS i
      RETURNING events.position
    )
    SELECT max(w.position) INTO result.position FROM written AS w;
  END IF;

  UPDATE mire.stream_heads AS s SET version = result.version WHERE s.stream_no = head.stream_no;
  RETURN result;
END
$$;

-- check_positions: that the sequence of positions is not behind the log: set back, say by a restore over a live store, it
-- would fill holes that readers have passed. Looks above the sequence's value of a moment ago, where normally nothing is
-- (so an open bulk append costs nothing here); what others have drawn since is at or below its value of now.
-- Raises: 55000 when it is.
CREATE FUNCTION mire_internal.check_positions(above bigint)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  beyond bigint;
BEGIN
  IF above IS NULL THEN
    RETURN;
  END IF;
  SELECT e.position INTO beyond FROM mire.events AS e WHERE e.position > above ORDER BY e.position LIMIT 1;
  IF beyond > mire_internal.head_position() THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the sequence mire.positions is at %s, behind the log', mire_internal.head_position()),
      DETAIL = jsonb_build_object('position', beyond)::text,
      HINT = 'It was set back, say by a restore over a live store. An admin''s SELECT mire.new_epoch() jumps ahead of the log.';
  END IF;
END
$$;
