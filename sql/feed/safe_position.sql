-- highest_settled: the last event of the feed that can be read now: the highest visible one at or below everything that is
-- still in flight. Asked of the log and not of the sequence: a hole at the tail (an aborted append) is not passed until an
-- event beyond it is committed. Whatever a reader has passed is then as durable as that event, on a synchronous standby
-- too, and can never be given to another one.
CREATE FUNCTION mire_internal.highest_settled()
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  -- First this; the next statement's snapshot is younger.
  settled CONSTANT bigint := mire_internal.settled_position();
BEGIN
  RETURN coalesce(
    (SELECT e.position FROM mire.events AS e WHERE e.position <= settled ORDER BY e.position DESC LIMIT 1), 0);
END
$$;

-- safe_position: up to where the feed can be read. Nothing at or below it is still in flight.
-- Locks: nothing.   Raises: MI007 feed_unsafe_here.
CREATE FUNCTION mire.safe_position()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.refuse_unsafe_feed();
  RETURN mire_internal.highest_settled();
END
$$;
COMMENT ON FUNCTION mire.safe_position() IS
'The position of the last event that the feed shows now. It is not monotonic: never compare with an earlier reading, and '
'never checkpoint it. Using it in the WHERE clause of one statement SKIPS EVENTS (that statement''s snapshot is older): '
'use read_all. Raises MI007';
