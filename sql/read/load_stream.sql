-- load_stream: what it takes to rebuild a stream's state, in one round trip and one snapshot: a row about the
-- stream, its newest usable snapshot if there is one, and the events after it. Works on a hot standby as well.
-- Locks: nothing.   Raises: nothing. A missing stream has no rows.
-- Planned with pages for free, so that what counts is the order: with the usual costs a bitmap scan and a sort of the
-- whole stream looks cheaper than its index in order.
CREATE FUNCTION mire.load_stream(stream text, snapshot_schema integer DEFAULT NULL)
RETURNS SETOF mire.stream_event
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET random_page_cost = 0
SET seq_page_cost = 0
AS $$
DECLARE
  head record;
  snapshot record;
  after_version bigint := 0;
BEGIN
  SELECT s.stream_no, s.version, s.created_at, s.truncated_before, s.deleted INTO head
    FROM mire.stream_heads AS s
   WHERE s.stream = load_stream.stream AND s.version > 0;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  RETURN NEXT ROW(NULL, head.version, NULL, '$stream', head.created_at,
    jsonb_build_object('truncated_before', head.truncated_before, 'deleted', head.deleted), NULL)::mire.stream_event;

  IF snapshot_schema IS NOT NULL AND NOT head.deleted THEN
    -- From a snapshot below what was truncated the events that are left cannot be reached.
    SELECT n.version, n.taken_at, n.state INTO snapshot
      FROM mire.snapshots AS n
     WHERE n.stream_no = head.stream_no AND n.schema_version = snapshot_schema
       AND n.version >= head.truncated_before - 1;
    IF FOUND THEN
      after_version := snapshot.version;
      RETURN NEXT ROW(NULL, snapshot.version, NULL, '$snapshot', snapshot.taken_at, snapshot.state, NULL)::mire.stream_event;
    END IF;
  END IF;
  RETURN QUERY
    SELECT e.position, e.version, e.event_id, e.type, e.recorded_at, e.data, e.metadata
      FROM mire.events AS e
     WHERE e.stream_no = head.stream_no AND e.version > after_version
     ORDER BY e.version;
END
$$;
COMMENT ON FUNCTION mire.load_stream(text, integer) IS
'Everything needed to rebuild a stream''s state. First a row of type $stream: version is the stream''s, data has '
'truncated_before and deleted. Then, when snapshot_schema is given and a snapshot of that schema version exists, a row '
'of type $snapshot: version is the snapshot''s, data its state. Then the events after it. No rows: no such stream';
