-- outbox_claim: takes messages that are due and that nobody holds. Order within an instance is kept: a message is taken only
-- when every earlier one of its instance that is still to be sent is taken by this same call.
-- Locks: the messages' rows, until commit, without waiting (SKIP LOCKED). Writes nothing when nothing is due. Bounds the
-- transaction's idle time by the ttl.
-- Raises: MI004 for a bad holder or list of kinds; 22023 for a count below 1 or a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.outbox_claim(holder text, kinds text[], max_count integer, ttl interval)
RETURNS SETOF mire.outbox_message
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  moment timestamptz;
  wanted CONSTANT text[] := mire_internal.filter_of('kinds', kinds);
  locked bigint[];
  streams bigint[];
  claimed bigint[];
  last mire.outbox_message;
BEGIN
  PERFORM mire_internal.check_name('holder', holder);
  PERFORM mire_internal.check_count('max_count', max_count);
  ttl := mire_internal.check_ttl(ttl);
  kinds := coalesce(wanted, mire_internal.outbox_kinds());
  PERFORM mire_internal.make_durable();

  moment := clock_timestamp();
  -- First those that nothing of their instance stands before: however many wait behind others, these are found.
  SELECT array_agg(m.message_no), array_agg(m.stream_no) INTO locked, streams
    FROM (SELECT m.message_no, m.stream_no
            FROM unnest(kinds) AS k (kind)
           CROSS JOIN LATERAL (
             SELECT o.message_no, o.stream_no, o.due_at
               FROM mire.outbox AS o
              WHERE o.status = 'pending' AND o.kind = k.kind AND o.due_at <= moment AND o.lease_expires_at <= moment
                AND NOT EXISTS (
                  SELECT FROM mire.outbox AS b
                   WHERE b.stream_no = o.stream_no AND b.status = 'pending' AND b.message_no < o.message_no)
              ORDER BY o.due_at
              LIMIT max_count
                FOR NO KEY UPDATE OF o SKIP LOCKED) AS m
           ORDER BY m.due_at, m.message_no
           LIMIT max_count) AS m;

  claimed := locked;
  IF cardinality(locked) < max_count THEN
    claimed := locked || mire_internal.following_messages(locked, streams, kinds, moment, max_count - cardinality(locked));
  END IF;

  IF claimed IS NOT NULL THEN
    PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM ttl) * 1000)::bigint);
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

-- following_messages: those that may go right after these, the first ones of their instances: each up to the first one that is
-- not due, is held, or is of another kind.
-- Locks: their rows, without waiting (SKIP LOCKED).
CREATE FUNCTION mire_internal.following_messages(
  firsts bigint[], streams bigint[], kinds text[], moment timestamptz, max_count integer)
RETURNS bigint[] LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  locked bigint[];
BEGIN
  SELECT array_agg(l.message_no) INTO locked
    FROM (SELECT o.message_no
            FROM unnest(firsts, streams) AS f (message_no, stream_no)
           CROSS JOIN LATERAL (
             SELECT min(b.message_no) AS message_no
               FROM mire.outbox AS b
              WHERE b.stream_no = f.stream_no AND b.status = 'pending' AND b.message_no > f.message_no
                AND (b.due_at > moment OR b.lease_expires_at > moment OR b.kind <> ALL (kinds))) AS stop
           INNER JOIN mire.outbox AS o
              ON o.stream_no = f.stream_no AND o.status = 'pending' AND o.message_no > f.message_no
             AND (stop.message_no IS NULL OR o.message_no < stop.message_no)
           ORDER BY o.message_no
           LIMIT max_count
             FOR NO KEY UPDATE OF o SKIP LOCKED) AS l;
  IF locked IS NULL THEN
    RETURN '{}';
  END IF;

  -- One in between may be in somebody else's transaction.
  RETURN ARRAY(
    SELECT o.message_no
      FROM unnest(firsts, streams) AS f (message_no, stream_no)
     CROSS JOIN LATERAL (
       SELECT min(b.message_no) FILTER (WHERE b.message_no <> ALL (locked)) AS message_no
         FROM mire.outbox AS b
        WHERE b.stream_no = f.stream_no AND b.status = 'pending' AND b.message_no > f.message_no) AS skipped
     INNER JOIN mire.outbox AS o ON o.stream_no = f.stream_no AND o.message_no = ANY (locked)
     WHERE skipped.message_no IS NULL OR o.message_no < skipped.message_no);
END
$$;

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
-- not taken, is in somebody's open transaction or waits for an earlier one, of which others may take care: it is not asked for
-- at once.
CREATE FUNCTION mire_internal.next_message_due(kinds text[], moment timestamptz)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  RETURN (
    SELECT min(least(past.due_at, future.due_at))
      FROM unnest(kinds) AS k (kind)
     CROSS JOIN LATERAL (
       SELECT min(CASE WHEN EXISTS (
                SELECT FROM mire.outbox AS b
                 WHERE b.stream_no = o.stream_no AND b.status = 'pending' AND b.message_no < o.message_no
              ) THEN moment + interval '1 s' ELSE greatest(o.lease_expires_at, moment + interval '100 ms') END) AS due_at
         FROM mire.outbox AS o
        WHERE o.status = 'pending' AND o.kind = k.kind AND o.due_at <= moment) AS past
     CROSS JOIN LATERAL (
       SELECT min(o.due_at) AS due_at
         FROM mire.outbox AS o
        WHERE o.status = 'pending' AND o.kind = k.kind AND o.due_at > moment) AS future);
END
$$;
