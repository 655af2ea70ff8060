-- release_subscription: gives a partition back, so that another worker need not wait for its expiry.
-- Locks: the lease's row, until commit.   Raises: 42704, 22023. False when it was not held any more.
CREATE FUNCTION mire.release_subscription(name text, partition integer, fence bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  subscription CONSTANT mire.subscriptions := mire_internal.find_subscription(name, 0);
BEGIN
  PERFORM mire_internal.check_partition(partition);
  -- A partition that it does not have any more has no lease either.
  RETURN mire.release_lease(mire_internal.partition_resource(name, subscription.generation, partition), fence);
END
$$;
COMMENT ON FUNCTION mire.release_subscription(text, integer, bigint) IS
'Gives a partition back. False when this fence did not hold it any more';
