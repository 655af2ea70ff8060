-- assert_subscription: begins a worker's transaction: it raises unless the fence holds the partition, and from then on
-- nobody can take the partition until the transaction ends. checkpoint asserts too, at the end: a worker that stalls
-- between the two is cut off after the ttl instead of sitting on the read model's rows.
-- Locks: the lease's row (KEY SHARE), until commit.   Raises: MI003 lease_lost, 42704, 22023.
CREATE FUNCTION mire.assert_subscription(name text, partition integer, fence bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  subscription mire.subscriptions := mire_internal.find_subscription(name, partition, fence);
BEGIN
  PERFORM mire.assert_lease(mire_internal.partition_resource(name, subscription.generation, partition), fence);
END
$$;
COMMENT ON FUNCTION mire.assert_subscription(text, integer, bigint) IS
'Call it first in the transaction that updates a read model: raises MI003 unless this fence holds the partition, keeps '
'others from taking it until the transaction ends, and bounds how long the transaction may idle by the ttl';
