-- append_events: appends events to one stream: all of them or none, durable once committed.
-- Locks: the stream's row, then the in-flight lock, both until commit. Waits for another append to the same stream.
-- Raises: MI001 version_conflict, MI002 stream_not_found, MI004 invalid input, MI005 stream_deleted;
--         22023 for an expected version below -1; 40001 where REPEATABLE READ or SERIALIZABLE would.
CREATE FUNCTION mire.append_events(
  stream text, types text[], data jsonb[], metadata jsonb[] DEFAULT NULL, ids uuid[] DEFAULT NULL,
  expected_version bigint DEFAULT NULL)
RETURNS mire.append_result
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS 'MODULE_PATHNAME', 'append_events_wrapper';
COMMENT ON FUNCTION mire.append_events(text, text[], jsonb[], jsonb[], uuid[], bigint) IS
'Appends events to one stream, all or none: element i of each array is event i. metadata and ids may be NULL or hold '
'NULLs; missing ids are made (UUIDv7). expected_version: NULL any, 0 must not exist, n exactly n, -1 must exist. With '
'the caller''s ids and an expected version of 0 or more a retry gets the first answer, marked duplicate. No events: '
'asserts the expected version and locks the stream until commit. Raises MI001, MI002, MI004, MI005';
