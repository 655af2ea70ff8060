-- find_subscription: its definition. Raises 42704 when there is none; 22023 for a partition it does not have.
CREATE FUNCTION mire_internal.find_subscription(name text, partition integer)
RETURNS mire.subscriptions LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  subscription mire.subscriptions;
BEGIN
  SELECT s.* INTO subscription FROM mire.subscriptions AS s WHERE s.name = find_subscription.name;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_no_subscription(name);
  ELSIF partition IS NULL OR partition NOT BETWEEN 0 AND subscription.partitions - 1 THEN
    PERFORM mire_internal.raise_out_of_range('partition', format('from 0 to %s', subscription.partitions - 1));
  END IF;
  RETURN subscription;
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

-- hold_partition: extends the caller's lease on a partition when a third of it has passed, so that fetching is the
-- heartbeat and idle fetching hardly writes. Raises MI003 when it is lost.
CREATE FUNCTION mire_internal.hold_partition(resource text, fence bigint)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  lease record;
BEGIN
  SELECT l.fence, l.ttl, l.expires_at INTO lease FROM mire.leases AS l WHERE l.resource = hold_partition.resource;
  IF NOT FOUND OR lease.fence IS DISTINCT FROM hold_partition.fence OR lease.expires_at <= clock_timestamp()
     OR (lease.expires_at - clock_timestamp() < lease.ttl * 2 / 3 AND NOT mire.renew_lease(resource, fence, lease.ttl)) THEN
    PERFORM mire_internal.raise_lease_lost(resource, fence, 'superseded, expired or released');
  END IF;
END
$$;
