-- delete_stream: erases a stream's events and snapshots for good and leaves a tombstone event ($stream_deleted) in the
-- stream and the feed. Its name is not used again.
-- Locks: the stream's row (UPDATE, so that save_snapshot waits), then the in-flight lock, both until commit.
-- Raises: MI001, MI002, MI004, MI005; 0A000 in REPEATABLE READ and SERIALIZABLE; 22023 for an expected version below -1.
CREATE FUNCTION mire.delete_stream(stream text, expected_version bigint DEFAULT NULL)
RETURNS mire.append_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  head mire_internal.locked_stream;
  result mire.append_result;
BEGIN
  PERFORM mire_internal.check_name('stream', stream);
  PERFORM mire_internal.check_expected_version(expected_version);
  -- A snapshot saved meanwhile would bring back what is erased here.
  PERFORM FROM mire.stream_heads AS s WHERE s.stream = delete_stream.stream FOR UPDATE;
  PERFORM mire_internal.require_read_committed('delete_stream');
  head := mire_internal.lock_stream(stream, to_create => false);
  IF coalesce(head.version, 0) = 0 THEN
    PERFORM mire_internal.raise_stream_not_found(stream);
  ELSIF head.deleted THEN
    PERFORM mire_internal.raise_stream_deleted(stream);
  ELSIF expected_version >= 0 AND expected_version <> head.version THEN
    PERFORM mire_internal.raise_version_conflict(stream, expected_version, head.version);
  END IF;

  result := mire_internal.erase(stream, head, head.version + 1, '$stream_deleted');
  DELETE FROM mire.snapshots AS n WHERE n.stream_no = head.stream_no;
  UPDATE mire.stream_heads AS s SET deleted = true WHERE s.stream_no = head.stream_no;
  RETURN result;
END
$$;
COMMENT ON FUNCTION mire.delete_stream(text, bigint) IS
'Erases a stream for good: its events and snapshots are deleted, a tombstone event of type $stream_deleted stays for the '
'feed''s readers, and appends raise MI005 from then on. For admins. Raises MI001, MI002, MI005';
