-- assert_lease: makes the caller's transaction depend on its lease: it raises unless the fence is the current one and
-- unexpired, and from then on nobody can take the lease until the transaction ends.
-- Locks: the lease's row (KEY SHARE), until commit; waits for a successor who is just taking it. Bounds the
-- transaction's idle time by the ttl, so that a stalled holder gives way.
-- Raises: MI003 lease_lost; 40001 in REPEATABLE READ and SERIALIZABLE when it cannot be told.
CREATE FUNCTION mire.assert_lease(resource text, fence bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  lease record;
BEGIN
  SELECT l.fence, l.ttl, l.expires_at INTO lease
    FROM mire.leases AS l
   WHERE l.resource = assert_lease.resource
     FOR KEY SHARE;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_lease_lost(resource, fence, 'nobody ever held it');
  ELSIF lease.fence IS DISTINCT FROM assert_lease.fence THEN
    PERFORM mire_internal.raise_lease_lost(resource, fence, format('superseded by fence %s', lease.fence));
  ELSIF lease.expires_at <= clock_timestamp() THEN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
      -- A renewal since the transaction's snapshot cannot be seen here.
      RAISE EXCEPTION USING
        ERRCODE = 'serialization_failure',
        MESSAGE = format('lease on "%s" had expired as of this transaction''s snapshot', resource),
        HINT = 'Retry the transaction; if the lease is really lost, MI003 says so then.';
    END IF;
    PERFORM mire_internal.raise_lease_lost(resource, fence, 'expired or released');
  END IF;
  PERFORM mire_internal.bound_idle(ceil(extract(epoch FROM lease.ttl) * 1000)::bigint);
END
$$;
COMMENT ON FUNCTION mire.assert_lease(text, bigint) IS
'Call it in the transaction whose work needs the lease: raises MI003 unless this fence holds it, and keeps others from '
'taking it until the transaction ends (or the savepoint is rolled back in which it was called). Sets '
'idle_in_transaction_session_timeout to at most the ttl for this transaction';
