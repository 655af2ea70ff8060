-- last_position: the sequence's value for readers of the view, who have no privilege on the sequence.
-- Locks: nothing.   Raises: nothing.
CREATE FUNCTION mire.last_position()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
  SELECT mire_internal.head_position()
$$;
COMMENT ON FUNCTION mire.last_position() IS 'The highest position handed out so far, committed or not; not for reading the feed';

CREATE VIEW mire.stats AS
SELECT i.store_id, i.epoch, i.extension_version,
       mire.last_position() AS last_position,
       (SELECT greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class AS c WHERE c.oid = 'mire.events'::regclass) AS events_estimate,
       (SELECT greatest(c.reltuples, 0)::bigint FROM pg_catalog.pg_class AS c WHERE c.oid = 'mire.stream_heads'::regclass) AS streams_estimate,
       pg_catalog.pg_total_relation_size('mire.events') AS events_bytes,
       (SELECT count(*) FROM mire.open_appends()) AS open_appends
  FROM mire.store_info() AS i;
COMMENT ON VIEW mire.stats IS
'One row: store id, epoch, last position, planner''s estimates of events and streams (as of the last vacuum or analyze), '
'bytes of events with indexes, number of open appends';
