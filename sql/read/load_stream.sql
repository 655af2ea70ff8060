-- load_stream: what it takes to rebuild a stream's state, in one round trip and one snapshot: a row about the
-- stream, its newest usable snapshot if there is one, and the events after it. Works on a hot standby as well.
-- Locks: nothing.   Raises: nothing. A missing stream has no rows.
-- Implemented in pg_mire/src/load.rs.
CREATE FUNCTION mire.load_stream(stream text, snapshot_schema integer DEFAULT NULL)
RETURNS SETOF mire.stream_event
LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS 'MODULE_PATHNAME', 'load_stream_wrapper';
COMMENT ON FUNCTION mire.load_stream(text, integer) IS
'Everything needed to rebuild a stream''s state. First a row of type $stream: version is the stream''s, data has '
'truncated_before and deleted. Then, when snapshot_schema is given and a snapshot of that schema version exists, a row '
'of type $snapshot: version is the snapshot''s, data its state. Then the events after it. No rows: no such stream';

-- load_stream_packed: the same for drivers, in chunks of some 32 KiB that come while the next one is made. In FROM they would be
-- gathered before the first is sent.
CREATE FUNCTION mire.load_stream_packed(stream text, snapshot_schema integer DEFAULT NULL)
RETURNS SETOF bytea
LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS 'MODULE_PATHNAME', 'load_stream_packed_wrapper';
COMMENT ON FUNCTION mire.load_stream_packed(text, integer) IS
'The rows of load_stream in chunks, which drivers read faster: in each one or more rows, one behind the other, as '
'read_all_packed has them. Call it as SELECT mire.load_stream_packed(…): then the first chunk comes before the last is made';
