-- lock_stream: locks a stream's row for the rest of the transaction and gives its number and version; makes the row
-- first when asked to. All NULL when the stream does not exist.
-- Locks: the stream's row (NO KEY UPDATE), also when nothing will be written; waits for whoever holds it.
-- Raises: 40001 in REPEATABLE READ and SERIALIZABLE when the row changed since the transaction's snapshot.
CREATE FUNCTION mire_internal.lock_stream(stream text, to_create boolean)
RETURNS mire_internal.locked_stream
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  head mire_internal.locked_stream;
BEGIN
  LOOP
    SELECT s.stream_no, s.version, s.deleted INTO head
      FROM mire.stream_heads AS s
     WHERE s.stream = lock_stream.stream
       FOR NO KEY UPDATE;
    IF FOUND OR NOT to_create THEN
      RETURN head;
    END IF;

    INSERT INTO mire.stream_heads (stream) VALUES (lock_stream.stream)
    ON CONFLICT ON CONSTRAINT stream_heads_stream_key DO NOTHING
    RETURNING stream_no, version, deleted INTO head;
    IF FOUND THEN
      RETURN head;
    END IF;
    -- Somebody else has just created it: lock theirs.
  END LOOP;
END
$$;
