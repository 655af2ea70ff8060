-- truncate_stream: erases a stream's events below a version and leaves a tombstone event ($stream_truncated) at its
-- end. Versions go on as before. Whoever folds the stream needs a snapshot that covers what is gone.
-- Locks: the stream's row, then the in-flight lock, both until commit.
-- Raises: MI002, MI004, MI005; 0A000 in REPEATABLE READ and SERIALIZABLE; 22023 unless before_version is from 2 to the stream's version + 1.
CREATE FUNCTION mire.truncate_stream(stream text, before_version bigint)
RETURNS mire.append_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  head mire_internal.locked_stream;
BEGIN
  PERFORM mire_internal.check_name('stream', stream);
  PERFORM mire_internal.require_read_committed('truncate_stream');
  head := mire_internal.lock_stream(stream, to_create => false);
  IF coalesce(head.version, 0) = 0 THEN
    PERFORM mire_internal.raise_stream_not_found(stream);
  ELSIF head.deleted THEN
    PERFORM mire_internal.raise_stream_deleted(stream);
  ELSIF before_version IS NULL OR before_version NOT BETWEEN 2 AND head.version + 1 THEN
    PERFORM mire_internal.raise_out_of_range('before_version', format('from 2 to %s', head.version + 1));
  END IF;
  RETURN mire_internal.erase(stream, head, before_version, '$stream_truncated');
END
$$;
COMMENT ON FUNCTION mire.truncate_stream(text, bigint) IS
'Erases a stream''s events with versions below before_version and appends a tombstone event of type $stream_truncated. '
'Versions go on as before. For admins. Raises MI002, MI005, 22023';
