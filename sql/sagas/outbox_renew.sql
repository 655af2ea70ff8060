-- outbox_renew: heartbeats of whoever sends messages: extends leases that these fences still hold, in one statement.
-- Locks: the messages' rows (NO KEY UPDATE), until commit, without waiting. Bounds the transaction's idle time by the ttl.
-- Raises: MI004 when the arrays do not fit together; 22023 for a ttl outside 10 ms to 1 day.
CREATE FUNCTION mire.outbox_renew(message_nos bigint[], fences bigint[], ttl interval)
RETURNS SETOF mire.renewed_item
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
  IF message_nos IS NULL OR fences IS NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, 'message_nos', 'or fences is null');
  END IF;
  PERFORM mire_internal.check_array('message_nos', message_nos, NULL);
  PERFORM mire_internal.check_array('fences', fences, cardinality(message_nos));
  ttl := mire_internal.check_ttl(ttl);
  PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM ttl) * 1000)::bigint);
  RETURN QUERY
    WITH item AS MATERIALIZED (
      SELECT i.* FROM unnest(message_nos, fences) WITH ORDINALITY AS i (message_no, fence, ord)
    ), locked AS MATERIALIZED (
      SELECT o.message_no, o.fence, o.status = 'pending' AND o.lease_expires_at > clock_timestamp() AS live
        FROM mire.outbox AS o
       WHERE o.message_no = ANY (message_nos)
         FOR NO KEY UPDATE SKIP LOCKED
    ), renewed AS (
      UPDATE mire.outbox AS o
         SET lease_expires_at = clock_timestamp() + outbox_renew.ttl
       WHERE o.message_no IN (
         SELECT l.message_no
           FROM locked AS l
          INNER JOIN item AS i ON i.message_no = l.message_no AND i.fence = l.fence
          WHERE l.live)
      RETURNING o.message_no, o.fence
    )
    SELECT i.ord::integer,
           CASE WHEN EXISTS (SELECT FROM renewed AS r WHERE r.message_no = i.message_no AND r.fence = i.fence) THEN true
                WHEN EXISTS (SELECT FROM locked AS l WHERE l.message_no = i.message_no)
                  OR NOT EXISTS (SELECT FROM mire.outbox AS o WHERE o.message_no = i.message_no) THEN false
           END
      FROM item AS i
     ORDER BY i.ord;
END
$$;
COMMENT ON FUNCTION mire.outbox_renew(bigint[], bigint[], interval) IS
'Extends the leases on messages from outbox_claim to ttl from now. One row an item: renewed is false when the lease is lost or '
'the message withdrawn, NULL when a transaction has the row just now (ask again). Raises MI004, 22023';
