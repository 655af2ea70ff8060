-- claim_streams: locks, in sorted order and without waiting, those of the given streams that nobody else holds, and
-- creates those that are to be created. Gives the names it got, in their order; the others are busy or do not exist.
-- Locks: the streams' rows (NO KEY UPDATE), until commit.   Raises: nothing of its own.
CREATE FUNCTION mire_internal.claim_streams(streams text[], to_create text[])
RETURNS text[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  claimed text[];
  missing text[];
  patience CONSTANT text := current_setting('lock_timeout');
BEGIN
  SELECT array_agg(s.stream) INTO claimed
    FROM (SELECT h.stream
            FROM mire.stream_heads AS h
           WHERE h.stream = ANY (streams)
           ORDER BY h.stream
             FOR NO KEY UPDATE SKIP LOCKED) AS s;

  -- A stream that another open transaction is creating would make an INSERT wait for that transaction.
  SELECT array_agg(t.stream ORDER BY t.stream) INTO missing
    FROM unnest(to_create) AS t (stream)
   WHERE NOT EXISTS (SELECT FROM mire.stream_heads AS h WHERE h.stream = t.stream COLLATE "C")
     AND NOT mire_internal.being_inserted('stream_heads', 'stream_heads_stream_key', t.stream);

  IF missing IS NOT NULL THEN
    -- Whoever begins to create one between the look and the INSERT is waited for no longer than this.
    PERFORM set_config('lock_timeout', '10ms', true);
    BEGIN
      WITH created AS (
        INSERT INTO mire.stream_heads (stream) SELECT m.stream FROM unnest(missing) AS m (stream)
        ON CONFLICT ON CONSTRAINT stream_heads_stream_key DO NOTHING
        RETURNING stream_heads.stream
      )
      SELECT claimed || array_agg(c.stream) INTO claimed FROM created AS c;
    EXCEPTION
      WHEN lock_not_available THEN
        NULL;
    END;
    PERFORM set_config('lock_timeout', patience, true);
  END IF;
  RETURN coalesce(claimed, '{}');
END
$$;
