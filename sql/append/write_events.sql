-- write_events: the core of every append. Decides on a stream that the caller has locked, and writes the events
-- with versions and positions in their order, or nothing. head: what lock_stream gave. first, last: which part of the arrays
-- is meant. Names and events are not checked: the store writes its own through this.
-- Locks: takes the in-flight lock before it draws the first position.   Raises: nothing; the outcome tells.
CREATE FUNCTION mire_internal.write_events(
  stream text, head mire_internal.locked_stream, expected_version bigint,
  types text[], data jsonb[], metadata jsonb[], ids uuid[], first integer, last integer)
RETURNS mire.batch_result
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'write_events_wrapper';

-- first_answer: the last position of a retry's events, which stand in the slots that follow the expected version. NULL when
-- others do.
CREATE FUNCTION mire_internal.first_answer(
  stream_no bigint, expected_version bigint, ids uuid[], first integer, last integer)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  answer bigint;
BEGIN
  SELECT max(e.position) INTO answer
    FROM generate_series(first, last) AS i
    JOIN mire.events AS e
      ON e.stream_no = first_answer.stream_no AND e.version = expected_version + i - first + 1 AND e.event_id = ids[i]
  HAVING count(*) = last - first + 1;
  RETURN answer;
END
$$;
