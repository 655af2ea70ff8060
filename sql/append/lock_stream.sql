-- lock_stream: locks a stream's row for the rest of the transaction and gives its number and version; makes the row
-- first when asked to. All NULL when the stream does not exist.
-- Locks: the stream's row (NO KEY UPDATE), also when nothing will be written; waits for whoever holds it.
-- Raises: 40001 in REPEATABLE READ and SERIALIZABLE when the row changed since the transaction's snapshot.
CREATE FUNCTION mire_internal.lock_stream(stream text, to_create boolean)
RETURNS mire_internal.locked_stream
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'lock_stream_wrapper';
