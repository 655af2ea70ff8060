-- renew_lease: extends a lease that this fence still holds; only this keeps a fence.
-- Locks: the lease's row (NO KEY UPDATE), until commit. Not blocked by the holder's own assert_lease.
-- Raises: 22023 for a ttl outside 10 ms to 1 day. False when the lease was lost (superseded, released or expired).
CREATE FUNCTION mire.renew_lease(resource text, fence bigint, ttl interval)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  ttl := mire_internal.check_ttl(ttl);
  PERFORM mire_internal.make_durable();
  UPDATE mire.leases AS l
     SET ttl = renew_lease.ttl, expires_at = clock_timestamp() + renew_lease.ttl
   WHERE l.resource = renew_lease.resource AND l.fence = renew_lease.fence AND l.expires_at > clock_timestamp();
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION mire.renew_lease(text, bigint, interval) IS
'Extends a lease to ttl from now. False when it is lost (superseded, released or expired): stop working then';
