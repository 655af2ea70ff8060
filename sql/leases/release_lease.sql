-- release_lease: gives a lease back, so that the next holder need not wait for its expiry.
-- Locks: the lease's row (NO KEY UPDATE), until commit.   Raises: nothing; false when it was not held any more.
CREATE FUNCTION mire.release_lease(resource text, fence bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  UPDATE mire.leases AS l
     SET holder = NULL, expires_at = '-infinity'
   WHERE l.resource = release_lease.resource AND l.fence = release_lease.fence AND l.expires_at > clock_timestamp();
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION mire.release_lease(text, bigint) IS 'Gives a lease back. False when this fence did not hold it any more';
