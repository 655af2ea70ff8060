-- erase: deletes a stream's events below a version, with the snapshots that could bring them back, and appends a tombstone
-- that the feed's readers see. The tombstone comes first, so that a reader never finds events gone without a word.
CREATE FUNCTION mire_internal.erase(
  stream text, head mire_internal.locked_stream, before_version bigint, tombstone text)
RETURNS mire.append_result LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  written mire.batch_result;
BEGIN
  written := mire_internal.write_events(
    stream, head, NULL, ARRAY[tombstone],
    ARRAY[jsonb_build_object('before_version', before_version)], NULL,
    NULL, 1, 1);
  PERFORM mire_internal.erase_events(head.stream_no, before_version);
  UPDATE mire.stream_heads AS s
     SET truncated_before = greatest(s.truncated_before, before_version)
   WHERE s.stream_no = head.stream_no;
  RETURN ROW(written.version, written.position, false)::mire.append_result;
END
$$;

-- delete_events: the statement that erase_events runs with the append-only trigger open.
CREATE FUNCTION mire_internal.delete_events(stream_no bigint, before_version bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  gone bigint;
BEGIN
  DELETE FROM mire.events AS e
   WHERE e.stream_no = delete_events.stream_no AND e.version < delete_events.before_version;
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END
$$;
