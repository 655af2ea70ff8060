-- find_subscription: its definition. Raises 42704 when there is none; for a partition it does not have 22023, but MI003 when the
-- caller says that it holds it: it may have, before another number of partitions took over.
CREATE FUNCTION mire_internal.find_subscription(name text, partition integer, fence bigint DEFAULT NULL)
RETURNS mire.subscriptions LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  subscription mire.subscriptions;
BEGIN
  SELECT s.* INTO subscription FROM mire.subscriptions AS s WHERE s.name = find_subscription.name;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_no_subscription(name);
  END IF;
  PERFORM mire_internal.check_partition(partition);
  IF partition < subscription.partitions THEN
    RETURN subscription;
  ELSIF fence IS NOT NULL THEN
    PERFORM mire_internal.raise_lease_lost(mire_internal.partition_resource(name, subscription.generation, partition), fence,
      format('partitions are from 0 to %s now', subscription.partitions - 1));
  END IF;
  PERFORM mire_internal.raise_out_of_range('partition', format('from 0 to %s', subscription.partitions - 1));
END
$$;

CREATE FUNCTION mire_internal.check_partition(partition integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF partition IS NULL OR partition NOT BETWEEN 0 AND 1023 THEN
    PERFORM mire_internal.raise_out_of_range('partition', 'from 0 to 1023, and less than the subscription has');
  END IF;
END
$$;

CREATE FUNCTION mire_internal.raise_no_subscription(name text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'undefined_object',
    MESSAGE = format('subscription "%s" does not exist', name),
    DETAIL = jsonb_build_object('subscription', name)::text,
    HINT = 'mire.create_subscription makes one; mire.subscription_status lists them.';
END
$$;

-- partition_resource: what the lease of a partition is called. The generation is part of it, so that a change of the
-- number of partitions supersedes every fence of before.
CREATE FUNCTION mire_internal.partition_resource(name text, generation integer, partition integer)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT '$subscription/' || name || '/' || generation || '/' || partition
$$;

-- enter_partition: locks a partition for its holder, until commit: the lease (KEY SHARE) and then the checkpoint's row.
-- Whoever has done so can rely on the subscription: its generation and stop position change only under a lock on every
-- checkpoint's row (lock_subscription, close_generation); read them after this. With heartbeat the lease is extended when a
-- third of it has passed, so that fetching is the heartbeat and idle fetching hardly writes.
-- Raises MI003 when the lease is lost; 42704, 22023.
CREATE FUNCTION mire_internal.enter_partition(name text, partition integer, fence bigint, heartbeat boolean)
RETURNS mire.checkpoints LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  current CONSTANT integer := (mire_internal.find_subscription(name, partition, fence)).generation;
  held CONSTANT text := mire_internal.partition_resource(name, current, partition);
  progress mire.checkpoints;
BEGIN
  -- Before the checkpoint's row, as acquire does. It also bounds the transaction's idle time: whoever holds the row and
  -- stalls would keep the partition for ever.
  PERFORM mire.assert_lease(held, fence);
  -- Not waiting for who is just renewing it: that may be this worker's fetch ahead, which waits for a checkpoint that this
  -- transaction has locked.
  IF heartbeat THEN
    PERFORM mire.renew_lease(held, enter_partition.fence, l.ttl)
       FROM (SELECT l.ttl
               FROM mire.leases AS l
              WHERE l.resource = held AND l.expires_at < clock_timestamp() + l.ttl * 2 / 3
                FOR NO KEY UPDATE SKIP LOCKED) AS l;
  END IF;
  SELECT c.* INTO progress
    FROM mire.checkpoints AS c
   WHERE c.name = enter_partition.name AND c.generation = current
     AND c.partition = enter_partition.partition
     FOR NO KEY UPDATE;
  IF NOT FOUND OR progress.fence IS DISTINCT FROM enter_partition.fence THEN
    PERFORM mire_internal.raise_lease_lost(held, fence, 'superseded, or the subscription was reset');
  END IF;
  RETURN progress;
END
$$;

-- lock_subscription: locks a subscription for a change of it: the checkpoints of its generation, so that no worker is in the
-- middle of a call, and then its own row. NULL when there is none.
CREATE FUNCTION mire_internal.lock_subscription(name text)
RETURNS mire.subscriptions LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  subscription mire.subscriptions;
BEGIN
  LOOP
    SELECT s.* INTO subscription FROM mire.subscriptions AS s WHERE s.name = lock_subscription.name;
    IF NOT FOUND THEN
      RETURN NULL;
    END IF;
    PERFORM FROM mire.checkpoints AS c
      WHERE c.name = lock_subscription.name AND c.generation = subscription.generation
      ORDER BY c.partition
        FOR UPDATE;
    -- None is left when the generation was closed meanwhile: look again.
    IF FOUND THEN
      SELECT s.* INTO subscription FROM mire.subscriptions AS s WHERE s.name = lock_subscription.name FOR UPDATE;
      RETURN subscription;
    END IF;
  END LOOP;
END
$$;
