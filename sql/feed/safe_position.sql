-- safe_position: up to where the feed can be read. Nothing at or below it is still in flight.
-- Locks: nothing.   Raises: MI007 feed_unsafe_here.
CREATE FUNCTION mire.safe_position()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.refuse_unsafe_feed();
  RETURN mire_internal.settled_position();
END
$$;
COMMENT ON FUNCTION mire.safe_position() IS
'The position up to which the feed can be read now. It is not monotonic: never compare with an earlier reading, and '
'never checkpoint it. Using it in the WHERE clause of one statement SKIPS EVENTS (that statement''s snapshot is older): '
'use read_all. Raises MI007';
