-- create_subscription: registers a consumer of the feed. Idempotent: the same definition again changes nothing.
-- Locks: the subscription's row.   Raises: 42710 when another definition has that name; MI004; MI007; 22023.
CREATE FUNCTION mire.create_subscription(
  name text, categories text[] DEFAULT NULL, types text[] DEFAULT NULL, start bigint DEFAULT 0,
  partitions integer DEFAULT 1)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  wanted mire.subscriptions;
  existing mire.subscriptions;
BEGIN
  PERFORM mire_internal.check_name('name', name);
  PERFORM mire_internal.check_partitions(partitions);
  IF start IS NOT NULL THEN
    PERFORM mire_internal.check_position('start', start);
  END IF;
  PERFORM mire_internal.make_durable();

  LOOP
    INSERT INTO mire.subscriptions AS s (name, categories, types, starts_after, partitions, epoch)
    VALUES (create_subscription.name, mire_internal.filter_of('categories', categories),
            mire_internal.filter_of('types', types), start, create_subscription.partitions,
            (SELECT store.epoch FROM mire.store AS store))
    ON CONFLICT ON CONSTRAINT subscriptions_pkey DO NOTHING
    RETURNING s.* INTO wanted;
    IF FOUND THEN
      IF start > mire_internal.head_position() THEN
        PERFORM mire_internal.raise_out_of_range('start', format('at most %s, the last one handed out', mire_internal.head_position()));
      END IF;
      PERFORM mire_internal.open_generation(wanted, coalesce(start, mire.safe_position()));
      RETURN true;
    END IF;

    SELECT s.* INTO existing FROM mire.subscriptions AS s WHERE s.name = create_subscription.name;
    -- Dropped just now, if it is gone.
    EXIT WHEN FOUND;
  END LOOP;
  IF existing.categories IS DISTINCT FROM mire_internal.filter_of('categories', categories)
     OR existing.types IS DISTINCT FROM mire_internal.filter_of('types', types)
     OR existing.starts_after IS DISTINCT FROM start
     OR coalesce(existing.next_partitions, existing.partitions) IS DISTINCT FROM partitions THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_object',
      MESSAGE = format('subscription "%s" exists with another definition', name),
      DETAIL = (to_jsonb(existing) - 'name' - 'created_at')::text,
      HINT = 'mire.alter_subscription changes a definition on purpose; mire.reset_subscription moves its checkpoints.';
  END IF;
  RETURN false;
END
$$;
COMMENT ON FUNCTION mire.create_subscription(text, text[], text[], bigint, integer) IS
'Registers a consumer of the feed with a durable checkpoint: events of these categories and types (NULL or empty: all), '
'after position start (0: from the beginning, NULL: from now on), split by stream over 1 to 1024 partitions. True when it '
'was made; false when the same definition was there. Raises 42710 for another definition under that name';

CREATE FUNCTION mire_internal.check_partitions(partitions integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF partitions IS NULL OR partitions NOT BETWEEN 1 AND 1024 THEN
    PERFORM mire_internal.raise_out_of_range('partitions', 'from 1 to 1024');
  END IF;
END
$$;

-- open_generation: one checkpoint a partition, all at the same position.
CREATE FUNCTION mire_internal.open_generation(subscription mire.subscriptions, at_position bigint)
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
  INSERT INTO mire.checkpoints (name, generation, partition, checkpoint, handed_out)
  SELECT subscription.name, subscription.generation, p, at_position, at_position
    FROM generate_series(0, subscription.partitions - 1) AS p
$$;
