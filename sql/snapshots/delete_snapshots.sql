-- delete_snapshots: forgets a stream's snapshots, of one schema version or of all. Returns how many.
-- Locks: the snapshots' rows, until commit.   Raises: nothing.
CREATE FUNCTION mire.delete_snapshots(stream text, schema_version integer DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  gone bigint;
BEGIN
  DELETE FROM mire.snapshots AS n
   WHERE n.stream_no = (SELECT s.stream_no FROM mire.stream_heads AS s WHERE s.stream = delete_snapshots.stream)
     AND (delete_snapshots.schema_version IS NULL OR n.schema_version = delete_snapshots.schema_version);
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
COMMENT ON FUNCTION mire.delete_snapshots(text, integer) IS
'Forgets a stream''s snapshots: of one schema version, or all (NULL). Returns how many there were';
