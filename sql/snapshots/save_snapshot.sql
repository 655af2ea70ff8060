-- save_snapshot: keeps the state of a stream as of a version. An older one never replaces a newer; deployments with
-- different schema versions do not touch each other's.
-- Locks: the stream's row (KEY SHARE) and the snapshot's, until commit.
-- Raises: MI001 when the stream has not reached that version, MI002, MI004, MI005; 22023 for a version below 1.
CREATE FUNCTION mire.save_snapshot(stream text, version bigint, schema_version integer, state jsonb)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  head record;
BEGIN
  PERFORM mire_internal.check_name('stream', stream);
  IF version IS NULL OR version < 1 THEN
    PERFORM mire_internal.raise_out_of_range('version', '1 or more');
  ELSIF schema_version IS NULL OR schema_version < 0 THEN
    PERFORM mire_internal.raise_out_of_range('schema_version', '0 or more');
  ELSIF state IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'state', 'is null (JSON null is allowed, SQL NULL is not)');
  END IF;

  SELECT s.stream_no, s.version, s.deleted INTO head
    FROM mire.stream_heads AS s
   WHERE s.stream = save_snapshot.stream AND s.version > 0
     FOR KEY SHARE;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_stream_not_found(stream);
  ELSIF head.deleted THEN
    PERFORM mire_internal.raise_stream_deleted(stream);
  ELSIF version > head.version THEN
    PERFORM mire_internal.raise_version_conflict(stream, version, head.version);
  END IF;

  INSERT INTO mire.snapshots AS n (stream_no, schema_version, version, taken_at, state)
  VALUES (head.stream_no, save_snapshot.schema_version, save_snapshot.version, clock_timestamp(), save_snapshot.state)
  ON CONFLICT ON CONSTRAINT snapshots_pkey DO UPDATE
    SET version = excluded.version, taken_at = excluded.taken_at, state = excluded.state
    WHERE n.version < excluded.version;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION mire.save_snapshot(text, bigint, integer, jsonb) IS
'Keeps a stream''s state as of a version (1 or more, not ahead of the stream) for a schema version (0 or more) of the '
'state''s shape. False when one at least as new was there. Snapshots are disposable: the log is the truth. Raises MI001 '
'when the stream has not reached that version, MI002, MI004, MI005';
