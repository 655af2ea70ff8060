-- acquire_subscription: takes the lease on a partition, as acquire_lease does, and tells where to go on.
-- When the number of partitions changes and all old ones are through, the new ones begin here.
-- Locks: the lease's row and the checkpoint's, until commit, without waiting for a holder: whoever holds
-- the checkpoint's row holds the lease too.
-- Raises: 42704, MI004, 22023.
CREATE FUNCTION mire.acquire_subscription(name text, partition integer, holder text, ttl interval)
RETURNS mire.subscription_lease
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  subscription mire.subscriptions;
  lease mire.lease_result;
  result mire.subscription_lease;
BEGIN
  PERFORM mire_internal.check_name('holder', holder);
  LOOP
    PERFORM mire_internal.close_generation(name);
    subscription := mire_internal.find_subscription(name, partition);
    lease := mire_internal.take_lease(
      mire_internal.partition_resource(name, subscription.generation, partition), holder, ttl);
    IF lease.acquired THEN
      -- What was handed out to a former holder is handed out again.
      UPDATE mire.checkpoints AS c
         SET fence = lease.fence, handed_out = c.checkpoint
       WHERE c.name = acquire_subscription.name AND c.generation = subscription.generation
         AND c.partition = acquire_subscription.partition;
    END IF;
    SELECT lease.acquired, lease.fence, c.checkpoint, lease.holder, lease.expires_at, subscription.epoch INTO result
      FROM mire.checkpoints AS c
     WHERE c.name = acquire_subscription.name AND c.generation = subscription.generation
       AND c.partition = acquire_subscription.partition;
    IF FOUND THEN
      RETURN result;
    END IF;
    -- The generation was closed, or the subscription dropped, since it was looked at.
    DELETE FROM mire.leases AS l
     WHERE l.resource = mire_internal.partition_resource(name, subscription.generation, partition)
       AND l.fence = lease.fence;
  END LOOP;
END
$$;
COMMENT ON FUNCTION mire.acquire_subscription(text, integer, text, interval) IS
'Takes a partition (from 0) of a subscription for ttl (10 ms to 1 day), if nobody else holds it; never waits. Gives the '
'fence for fetch_events and checkpoint, the checkpoint, and the epoch: stop when it is not the one you know. Raises 42704';
