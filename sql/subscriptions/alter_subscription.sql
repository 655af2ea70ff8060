-- alter_subscription: changes a definition on purpose. A new filter holds from each checkpoint on, and supersedes whoever is
-- at work. A new number of partitions takes over once every old partition has reached a common stop position, so that no
-- stream is handled by two.
-- Locks: the checkpoints' rows and the subscription's, until commit; waits for workers' transactions.
-- Raises: 42704, MI004, 22023; 55000 while an earlier change of the number of partitions is still under way.
CREATE FUNCTION mire.alter_subscription(
  name text, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, partitions integer DEFAULT 1)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  current mire.subscriptions;
BEGIN
  PERFORM mire_internal.check_partitions(partitions);
  PERFORM mire_internal.make_durable();
  current := mire_internal.lock_subscription(name);
  IF current.name IS NULL THEN
    PERFORM mire_internal.raise_no_subscription(name);
  ELSIF current.stop_position IS NOT NULL AND current.next_partitions <> partitions THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('subscription "%s" is still on its way to %s partitions', name, current.next_partitions),
      DETAIL = jsonb_build_object('subscription', name, 'stop_position', current.stop_position)::text,
      HINT = 'Wait until every partition has reached the stop position (see mire.subscription_status).';
  END IF;

  UPDATE mire.subscriptions AS s
     SET categories = mire_internal.filter_of('categories', alter_subscription.categories),
         types = mire_internal.filter_of('types', alter_subscription.types)
   WHERE s.name = alter_subscription.name;
  IF current.categories IS DISTINCT FROM mire_internal.filter_of('categories', alter_subscription.categories)
     OR current.types IS DISTINCT FROM mire_internal.filter_of('types', alter_subscription.types) THEN
    -- What workers have in hand beyond the checkpoint was chosen by the old filter: they take their partitions anew.
    UPDATE mire.checkpoints AS c SET fence = 0, handed_out = c.checkpoint WHERE c.name = alter_subscription.name;
  END IF;
  IF current.stop_position IS NULL AND current.partitions <> partitions THEN
    -- No partition has been handed out more, and each can get there: a hole at the tail is not passed.
    UPDATE mire.subscriptions AS s
       SET next_partitions = alter_subscription.partitions,
           stop_position = greatest(mire_internal.highest_settled(), (
             SELECT max(c.handed_out)
               FROM mire.checkpoints AS c
              WHERE c.name = alter_subscription.name AND c.generation = current.generation))
     WHERE s.name = alter_subscription.name;
    PERFORM mire_internal.close_generation(name);
  END IF;
END
$$;
COMMENT ON FUNCTION mire.alter_subscription(text, text[], text[], integer) IS
'Gives a subscription a new definition (all three parts, as in create_subscription). Another filter supersedes its workers '
'(their next call raises MI003). Another number of partitions takes over when all old ones have reached a common stop '
'position. For admins. Raises 42704, 55000';

-- close_generation: when every partition has reached the stop position, the next generation begins there. Nobody may be in
-- the middle of a call then. It waits for them only briefly, because its caller may hold a checkpoint's row; a later acquire
-- comes by again.
CREATE FUNCTION mire_internal.close_generation(name text)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET lock_timeout = '100ms'
AS $$
DECLARE
  subscription mire.subscriptions;
BEGIN
  IF mire_internal.is_behind_stop(name)
     OR NOT EXISTS (SELECT FROM mire.subscriptions AS s WHERE s.name = close_generation.name AND s.stop_position IS NOT NULL) THEN
    RETURN;
  END IF;
  subscription := mire_internal.lock_subscription(name);
  IF subscription.stop_position IS NULL OR mire_internal.is_behind_stop(name) THEN
    RETURN;
  END IF;
  UPDATE mire.subscriptions AS s
     SET partitions = s.next_partitions, generation = s.generation + 1, next_partitions = NULL, stop_position = NULL
   WHERE s.name = close_generation.name
  RETURNING s.* INTO subscription;
  -- All the same, unless a reset went beyond the stop position.
  PERFORM mire_internal.open_generation(subscription,
    (SELECT max(c.checkpoint) FROM mire.checkpoints AS c WHERE c.name = close_generation.name));
  DELETE FROM mire.checkpoints AS c WHERE c.name = close_generation.name AND c.generation < subscription.generation;
  PERFORM mire_internal.forget_leases(name, subscription.generation);
EXCEPTION
  WHEN lock_not_available OR deadlock_detected THEN
    NULL;
END
$$;

CREATE FUNCTION mire_internal.is_behind_stop(name text)
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT EXISTS (
    SELECT FROM mire.subscriptions AS s
      JOIN mire.checkpoints AS c ON c.name = s.name AND c.generation = s.generation AND c.checkpoint < s.stop_position
     WHERE s.name = is_behind_stop.name)
$$;

-- forget_leases: deletes the leases of a subscription's partitions up to before a generation, without waiting: one that
-- somebody is just looking at means nothing without its checkpoint. Fences come from one sequence, so they keep growing.
-- (Names may hold slashes: "a/b" is not a's.)
CREATE FUNCTION mire_internal.forget_leases(name text, before_generation integer)
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
  WITH own AS MATERIALIZED (
    SELECT l.resource, substr(l.resource, length('$subscription/' || name || '/') + 1) AS place
      FROM mire.leases AS l
     WHERE l.resource >= '$subscription/' || name || '/' AND l.resource < '$subscription/' || name || '0'
       AND substr(l.resource, length('$subscription/' || name || '/') + 1) ~ '^[0-9]+/[0-9]+$'
       FOR UPDATE SKIP LOCKED
  )
  DELETE FROM mire.leases AS l
   USING own
   WHERE l.resource = own.resource AND split_part(own.place, '/', 1)::integer < before_generation
$$;
