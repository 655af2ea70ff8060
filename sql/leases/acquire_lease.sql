-- acquire_lease: takes the lease on a resource if it is free, expired, or held under the same holder's name. Every
-- acquire gets a new fence, larger than all before; two processes that share a holder's name never share one.
-- Locks: the lease's row (UPDATE), until commit, without waiting: a holder whose transaction has asserted the lease
-- keeps it until that transaction ends.
-- Raises: MI004 for a bad name; 22023 for a ttl outside 10 ms to 1 day; 55P03 and 40001 as take_lease.
CREATE FUNCTION mire.acquire_lease(resource text, holder text, ttl interval)
RETURNS mire.lease_result
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  PERFORM mire_internal.check_name('resource', resource);
  PERFORM mire_internal.check_name('holder', holder);
  RETURN mire_internal.take_lease(resource, holder, ttl);
END
$$;
COMMENT ON FUNCTION mire.acquire_lease(text, text, interval) IS
'Takes the lease on a resource for ttl (10 ms to 1 day, by the database''s clock) if nobody else holds it; never waits. '
'acquired tells; fence is the token for renew_lease, assert_lease and release_lease, new at every acquire. The same '
'holder''s name takes its lease back and supersedes its former self. Raises MI004, 22023';
