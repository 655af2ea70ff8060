-- append_batch: many appends, one call, one commit. Every item lands whole or not at all and has an outcome of its
-- own; no item's outcome stops another. A stream may come more than once; its items then apply in order.
-- Locks: the streams' rows without waiting (who holds one makes its items busy), then the in-flight lock.
-- Raises: MI004 when the arrays do not fit together; everything else is an outcome.
CREATE FUNCTION mire.append_batch(
  streams text[], expected bigint[], counts integer[], types text[], data jsonb[],
  metadata jsonb[] DEFAULT NULL, ids uuid[] DEFAULT NULL)
RETURNS SETOF mire.batch_result
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS 'MODULE_PATHNAME', 'append_batch_wrapper';
COMMENT ON FUNCTION mire.append_batch(text[], bigint[], integer[], text[], jsonb[], jsonb[], uuid[]) IS
'Many appends in one commit. Item i goes to streams[i] at expected[i] (as in append; NULL array: any version) and has '
'the next counts[i] elements of types, data, metadata and ids. Outcomes, one row an item: appended, duplicate, conflict, '
'busy (somebody''s open transaction has the stream: send it again alone), not_found, deleted, invalid (see reason)';
