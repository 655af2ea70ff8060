-- fetch_events: the next events of a partition, and the heartbeat of its lease, in one call.
-- Locks: the checkpoint's row and (when a third of the ttl has passed) the lease's, until commit.
-- Raises: MI003 lease_lost, MI007 feed_unsafe_here, 42704, 22023.
CREATE FUNCTION mire.fetch_events(
  name text, partition integer, fence bigint, max_count integer DEFAULT 1000, after_position bigint DEFAULT NULL)
RETURNS SETOF mire.feed_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  subscription mire.subscriptions := mire_internal.find_subscription(name, partition);
  progress mire.checkpoints;
  held_back bigint[];
  from_position bigint;
  last_position bigint;
  event mire.feed_event;
BEGIN
  PERFORM mire_internal.check_count('max_count', max_count);
  PERFORM mire_internal.hold_partition(
    mire_internal.partition_resource(name, subscription.generation, partition), fence);
  PERFORM mire_internal.refuse_unsafe_feed();
  progress := mire_internal.lock_progress(name, subscription.generation, partition, fence);

  from_position := coalesce(after_position, progress.checkpoint);
  IF from_position NOT BETWEEN progress.checkpoint AND progress.handed_out THEN
    PERFORM mire_internal.raise_out_of_range('after_position',
      format('from %s (the checkpoint) to %s (handed out so far)', progress.checkpoint, progress.handed_out));
  END IF;
  last_position := least(mire_internal.highest_settled(), subscription.stop_position);
  IF subscription.paused THEN
    last_position := from_position;
  END IF;
  SELECT array_agg(p.stream_no) INTO held_back FROM mire.parked_events AS p WHERE p.name = fetch_events.name;

  FOR event IN
    SELECT * FROM mire_internal.read_page(
      from_position, last_position, max_count, subscription.categories, subscription.types,
      subscription.partitions, partition, held_back)
  LOOP
    RETURN NEXT event;
  END LOOP;

  IF event.position IS NULL AND from_position = progress.checkpoint THEN
    -- Caught up: nothing is in the caller's hands, so the checkpoint moves over holes and filtered events by itself.
    UPDATE mire.checkpoints AS c
       SET checkpoint = event.next_position, handed_out = event.next_position, checkpointed_at = clock_timestamp()
     WHERE c.name = fetch_events.name AND c.generation = subscription.generation
       AND c.partition = fetch_events.partition AND c.checkpoint < event.next_position;
  ELSE
    UPDATE mire.checkpoints AS c
       SET handed_out = event.next_position
     WHERE c.name = fetch_events.name AND c.generation = subscription.generation
       AND c.partition = fetch_events.partition AND c.handed_out < event.next_position;
  END IF;
  IF subscription.stop_position IS NOT NULL THEN
    PERFORM mire_internal.close_generation(name);
  END IF;
END
$$;
COMMENT ON FUNCTION mire.fetch_events(text, integer, bigint, integer, bigint) IS
'The next events of a partition after its checkpoint, or after after_position (at most what was handed out already: to '
'fetch ahead), and the heartbeat of its lease. Rows as in read_all: go on after next_position; one row with position NULL '
'when nothing matched. Then handle them and call checkpoint, in one transaction with the read model. Raises MI003 when '
'the lease is lost, MI007, 42704, 22023';

-- lock_progress: locks a partition's checkpoint for its holder. Raises MI003 when the fence is not the current one.
CREATE FUNCTION mire_internal.lock_progress(name text, generation integer, partition integer, fence bigint)
RETURNS mire.checkpoints LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  progress mire.checkpoints;
BEGIN
  SELECT c.* INTO progress
    FROM mire.checkpoints AS c
   WHERE c.name = lock_progress.name AND c.generation = lock_progress.generation
     AND c.partition = lock_progress.partition
     FOR NO KEY UPDATE;
  IF NOT FOUND OR progress.fence IS DISTINCT FROM lock_progress.fence THEN
    PERFORM mire_internal.raise_lease_lost(
      mire_internal.partition_resource(name, generation, partition), fence, 'superseded, or the subscription was reset');
  END IF;
  RETURN progress;
END
$$;
