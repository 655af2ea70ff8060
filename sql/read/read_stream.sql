-- read_stream: a page of one stream's events in version order, or backward. Works on a hot standby as well.
-- Locks: nothing.   Raises: 22023 for a negative version or a count below 1. A missing stream has no rows.
-- Planned with pages for free, so that what counts is the order: with the usual costs a bitmap scan and a sort of the
-- whole stream looks cheaper than its index in order.
CREATE FUNCTION mire.read_stream(
  stream text, after_version bigint DEFAULT 0, max_count integer DEFAULT 1000, backward boolean DEFAULT false)
RETURNS SETOF mire.stream_event
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET random_page_cost = 0
SET seq_page_cost = 0
AS $$
BEGIN
  PERFORM mire_internal.check_position('after_version', after_version);
  PERFORM mire_internal.check_count('max_count', max_count);
  IF backward THEN
    RETURN QUERY
      SELECT e.position, e.version, e.event_id, e.type, e.recorded_at, e.data, e.metadata
        FROM mire.events AS e
       WHERE e.stream_no = (SELECT s.stream_no FROM mire.stream_heads AS s WHERE s.stream = read_stream.stream)
         AND e.version < CASE WHEN after_version = 0 THEN 9223372036854775807 ELSE after_version END
       ORDER BY e.version DESC
       LIMIT max_count;
  ELSE
    RETURN QUERY
      SELECT e.position, e.version, e.event_id, e.type, e.recorded_at, e.data, e.metadata
        FROM mire.events AS e
       WHERE e.stream_no = (SELECT s.stream_no FROM mire.stream_heads AS s WHERE s.stream = read_stream.stream)
         AND e.version > after_version
       ORDER BY e.version
       LIMIT max_count;
  END IF;
END
$$;
COMMENT ON FUNCTION mire.read_stream(text, bigint, integer, boolean) IS
'Events of one stream with versions above after_version (0: from the first), at most max_count, in version order. '
'backward: versions below after_version (0: from the last), newest first. Sees the transaction''s own appends. Works on '
'a hot standby. Positions shown here are no checkpoints: only read_all gives those';
