-- outbox_claim: takes messages that are due and that nobody holds. Order within an instance is kept: a message is taken only
-- when every earlier one of its instance that is still to be sent is taken by this same call.
-- Locks: the messages' rows, until commit, without waiting (SKIP LOCKED). Writes nothing when nothing is due.
-- Raises: MI004 for a bad holder or list of kinds; 22023 for a count below 1 or a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.outbox_claim(holder text, kinds text[], max_count integer, ttl interval)
RETURNS SETOF mire.outbox_message
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  moment timestamptz;
  wanted CONSTANT text[] := mire_internal.filter_of('kinds', kinds);
  locked bigint[];
  claimed bigint[];
  last mire.outbox_message;
BEGIN
  PERFORM mire_internal.check_name('holder', holder);
  PERFORM mire_internal.check_count('max_count', max_count);
  ttl := mire_internal.check_ttl(ttl);
  kinds := coalesce(wanted, mire_internal.outbox_kinds());
  PERFORM mire_internal.make_durable();

  moment := clock_timestamp();
  SELECT array_agg(m.message_no) INTO locked
    FROM (SELECT m.message_no
            FROM unnest(kinds) AS k (kind)
           CROSS JOIN LATERAL (
             SELECT o.message_no, o.due_at
               FROM mire.outbox AS o
              WHERE o.status = 'pending' AND o.kind = k.kind AND o.due_at <= moment AND o.lease_expires_at <= moment
                AND NOT EXISTS (
                  SELECT FROM mire.outbox AS b
                   WHERE b.stream_no = o.stream_no AND b.status = 'pending' AND b.message_no < o.message_no
                     AND (b.due_at > moment OR b.lease_expires_at > moment OR b.kind <> ALL (kinds)))
              ORDER BY o.due_at
              LIMIT max_count
                FOR NO KEY UPDATE OF o SKIP LOCKED) AS m
           ORDER BY m.due_at, m.message_no
           LIMIT max_count) AS m;

  IF locked IS NOT NULL THEN
    -- An earlier one may be in somebody else's transaction, or beyond max_count.
    SELECT array_agg(o.message_no) INTO claimed
      FROM mire.outbox AS o
     WHERE o.message_no = ANY (locked)
       AND NOT EXISTS (
         SELECT FROM mire.outbox AS b
          WHERE b.stream_no = o.stream_no AND b.status = 'pending' AND b.message_no < o.message_no
            AND b.message_no <> ALL (locked));
  END IF;

  IF claimed IS NOT NULL THEN
    -- No indexed column changes: HOT.
    UPDATE mire.outbox AS o
       SET holder = outbox_claim.holder,
           fence = greatest(nextval('mire.fences'), o.fence + 1),
           lease_expires_at = clock_timestamp() + ttl,
           attempts = o.attempts + 1
     WHERE o.message_no = ANY (claimed);
    RETURN QUERY
      SELECT o.message_no, o.saga, o.instance, o.step, o.undo, o.activation, o.request, o.key, o.kind, o.data, o.attempts - 1, o.fence,
             NULL::timestamptz
        FROM mire.outbox AS o
       WHERE o.message_no = ANY (claimed)
       ORDER BY o.message_no;
  END IF;

  last.next_due_at := CASE
    WHEN cardinality(claimed) = max_count THEN moment
    ELSE mire_internal.next_message_due(kinds, moment) END;
  RETURN NEXT last;
END
$$;
COMMENT ON FUNCTION mire.outbox_claim(text, text[], integer, interval) IS
'Takes at most max_count messages that are due, for holder for ttl (10 ms to 1 day), in the order in which they were written. '
'kinds: which ones; NULL: all but the internal ones, which begin with $. Send each and tell with outbox_ack. A last row '
'without a message_no tells in next_due_at when to claim again (NULL: nothing is due by itself). Never waits. Raises MI004, 22023';

-- outbox_kinds: the kinds of messages that are to be sent, without the internal ones: one probe of the index a kind.
CREATE FUNCTION mire_internal.outbox_kinds()
RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  found_kinds text[] := '{}';
  next_kind text := '';
BEGIN
  LOOP
    SELECT o.kind INTO next_kind
      FROM mire.outbox AS o
     WHERE o.status = 'pending' AND o.kind > next_kind
     ORDER BY o.kind
     LIMIT 1;
    IF NOT FOUND THEN
      RETURN found_kinds;
    ELSIF NOT starts_with(next_kind, '$') THEN
      found_kinds := found_kinds || next_kind;
    END IF;
  END LOOP;
END
$$;

-- next_message_due: when the next message of these kinds can be claimed, as far as is known. What is due and free, and was
-- not taken, waits for an earlier one or is in somebody's open transaction: it is not asked for at once.
CREATE FUNCTION mire_internal.next_message_due(kinds text[], moment timestamptz)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  RETURN (
    SELECT min(least(past.due_at, future.due_at))
      FROM unnest(kinds) AS k (kind)
     CROSS JOIN LATERAL (
       SELECT min(greatest(o.lease_expires_at, moment + interval '100 ms')) AS due_at
         FROM mire.outbox AS o
        WHERE o.status = 'pending' AND o.kind = k.kind AND o.due_at <= moment) AS past
     CROSS JOIN LATERAL (
       SELECT min(o.due_at) AS due_at
         FROM mire.outbox AS o
        WHERE o.status = 'pending' AND o.kind = k.kind AND o.due_at > moment) AS future);
END
$$;
