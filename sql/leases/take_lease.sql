-- take_lease: the core of acquire_lease and acquire_subscription: takes the lease on a resource if it is free, expired, or
-- held under the same holder's name. Every acquire gets a new fence, larger than all before.
-- Locks: the lease's row (UPDATE), until commit, without waiting. (lock_timeout is for two first acquires at the same
-- instant.)
-- Raises: 22023 for a ttl outside 10 ms to 1 day; 55P03 in that instant; 40001 in REPEATABLE READ and SERIALIZABLE.
CREATE FUNCTION mire_internal.take_lease(resource text, holder text, ttl interval)
RETURNS mire.lease_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET lock_timeout = '100ms'
AS $$
DECLARE
  result mire.lease_result;
BEGIN
  ttl := mire_internal.check_ttl(ttl);
  PERFORM mire_internal.make_durable();

  -- Made expired, so that first and later acquires go the same way: lock, look, draw a fence.
  IF NOT EXISTS (SELECT FROM mire.leases AS l WHERE l.resource = take_lease.resource)
     AND NOT mire_internal.being_inserted('leases', 'leases_pkey', resource) THEN
    INSERT INTO mire.leases (resource, fence, ttl, acquired_at, expires_at)
    VALUES (take_lease.resource, 0, take_lease.ttl, '-infinity', '-infinity')
    ON CONFLICT ON CONSTRAINT leases_pkey DO NOTHING;
  END IF;

  -- Locked only when it can be taken: a challenger's open transaction must not keep the holder from renewing.
  PERFORM FROM mire.leases AS l
    WHERE l.resource = take_lease.resource
      AND (l.expires_at <= clock_timestamp() OR l.holder = take_lease.holder)
      FOR UPDATE SKIP LOCKED;
  IF FOUND THEN
    UPDATE mire.leases AS l
       SET holder = take_lease.holder,
           -- Above its predecessor even if the sequence was set back.
           fence = greatest(nextval('mire.fences'), l.fence + 1),
           ttl = take_lease.ttl,
           acquired_at = clock_timestamp(),
           expires_at = clock_timestamp() + take_lease.ttl
     WHERE l.resource = take_lease.resource
    RETURNING true, l.fence, l.holder, l.expires_at INTO result;
    RETURN result;
  END IF;

  SELECT l.holder, l.expires_at INTO result.holder, result.expires_at
    FROM mire.leases AS l
   WHERE l.resource = take_lease.resource;
  result.acquired := false;
  RETURN result;
END
$$;
