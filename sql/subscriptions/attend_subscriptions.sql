-- attend_subscriptions: what a worker process says and asks every now and then, in one call for all its subscriptions: that
-- it is there, that it still works on the partitions it holds (their heartbeat), and how all partitions stand, so that it
-- can take its share and give back what is too much. Workers are leases like any other, on "$worker/NAME/WORKER".
-- Locks: the leases of the caller (only when a third of their ttl has passed), until commit.   Raises: MI004, 22023.
CREATE FUNCTION mire.attend_subscriptions(
  names text[], worker text, ttl interval, held_partitions text[] DEFAULT NULL, held_fences bigint[] DEFAULT NULL)
RETURNS SETOF mire.attended_partition
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  due_partitions text[];
BEGIN
  PERFORM mire_internal.check_name('worker', worker);
  ttl := mire_internal.check_ttl(ttl);
  IF cardinality(held_partitions) IS DISTINCT FROM cardinality(held_fences) THEN
    PERFORM mire_internal.raise_out_of_range('held_fences', 'one for each of held_partitions');
  END IF;
  PERFORM mire_internal.close_generation(n) FROM unnest(names) AS n ORDER BY n;
  PERFORM mire_internal.announce_worker(names, worker, ttl);

  -- One that is locked is just being extended by a fetch, or taken over; the others' heartbeat does not wait for it.
  SELECT array_agg(due.resource) INTO due_partitions
    FROM (SELECT l.resource
            FROM mire.leases AS l
            JOIN unnest(held_partitions, held_fences) AS held (resource, fence)
              ON held.resource = l.resource AND held.fence = l.fence
           WHERE starts_with(l.resource, '$subscription/')
             AND l.expires_at > clock_timestamp() AND l.expires_at < clock_timestamp() + attend_subscriptions.ttl * 2 / 3
             FOR NO KEY UPDATE OF l SKIP LOCKED) AS due;
  IF due_partitions IS NOT NULL THEN
    PERFORM mire_internal.make_durable();
    UPDATE mire.leases AS l
       SET expires_at = clock_timestamp() + attend_subscriptions.ttl, ttl = attend_subscriptions.ttl
     WHERE l.resource = ANY (due_partitions);
  END IF;

  RETURN QUERY
    SELECT s.name, c.partition, r.resource, l.holder, l.fence, l.expires_at - clock_timestamp(),
           w.workers::integer, w.rank::integer, s.paused,
           EXISTS (SELECT FROM mire.parked_events AS p
                    WHERE p.name = s.name AND p.retry AND p.stream_no % s.partitions = c.partition),
           s.epoch, (SELECT store.epoch FROM mire.store AS store)
      FROM mire.subscriptions AS s
      JOIN mire.checkpoints AS c ON c.name = s.name AND c.generation = s.generation
     CROSS JOIN LATERAL mire_internal.partition_resource(s.name, s.generation, c.partition) AS r (resource)
      LEFT JOIN mire.leases AS l ON l.resource = r.resource AND l.expires_at > clock_timestamp()
     CROSS JOIN LATERAL mire_internal.rank_worker(s.name, worker) AS w
     WHERE s.name = ANY (names)
     ORDER BY s.name, c.partition;
END
$$;
COMMENT ON FUNCTION mire.attend_subscriptions(text[], text, interval, text[], bigint[]) IS
'A worker process says that it is there (for ttl) and still holds these partitions (resources and fences, as an earlier '
'call and acquire_subscription gave them), and learns how every partition of these subscriptions stands. Call it three '
'times per ttl or more often. A fair share is partitions / workers, plus one if rank < partitions % workers; release what '
'is more, acquire what is free. Raises MI004, 22023';

-- announce_worker: a lease for each subscription that a worker attends to; those of workers long gone are forgotten.
CREATE FUNCTION mire_internal.announce_worker(names text[], worker text, ttl interval)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  attended text;
BEGIN
  FOREACH attended IN ARRAY coalesce(names, '{}') LOOP
    CONTINUE WHEN EXISTS (
      SELECT FROM mire.leases AS l
       WHERE l.resource = mire_internal.worker_resource(attended, worker)
         AND l.expires_at > clock_timestamp() + announce_worker.ttl * 2 / 3)
      OR NOT EXISTS (SELECT FROM mire.subscriptions AS s WHERE s.name = attended);
    INSERT INTO mire.leases AS l (resource, holder, fence, ttl, acquired_at, expires_at)
    VALUES (mire_internal.worker_resource(attended, worker), announce_worker.worker, nextval('mire.fences'), announce_worker.ttl,
            clock_timestamp(), clock_timestamp() + announce_worker.ttl)
    ON CONFLICT ON CONSTRAINT leases_pkey DO UPDATE SET ttl = excluded.ttl, expires_at = excluded.expires_at;
    DELETE FROM mire.leases AS l
     WHERE l.resource = ANY (ARRAY(
             SELECT gone.resource
               FROM mire.leases AS gone
              WHERE gone.resource >= '$worker/' || attended || '/' AND gone.resource < '$worker/' || attended || '0'
                AND gone.resource = mire_internal.worker_resource(attended, gone.holder)
                AND gone.expires_at <= clock_timestamp() - gone.ttl
                FOR UPDATE SKIP LOCKED));
  END LOOP;
END
$$;

-- rank_worker: how many workers attend to a subscription, and which of them this one is, from 0. The order differs from
-- subscription to subscription, so that not one worker gets the odd partition of each.
CREATE FUNCTION mire_internal.rank_worker(name text, worker text, OUT workers bigint, OUT rank bigint)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT count(*),
         count(*) FILTER (WHERE (md5(l.resource), l.resource)
                              < (md5(mire_internal.worker_resource(name, worker)), mire_internal.worker_resource(name, worker)))
    FROM mire.leases AS l
   WHERE l.resource >= '$worker/' || name || '/' AND l.resource < '$worker/' || name || '0'
     AND l.resource = mire_internal.worker_resource(name, l.holder)
     AND l.expires_at > clock_timestamp()
$$;

CREATE FUNCTION mire_internal.worker_resource(name text, worker text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ('$worker/' || name || '/' || worker) COLLATE "C"
$$;
