-- fetch_events: the next events of a partition, and the heartbeat of its lease, in one call. A page is bounded by bytes as well
-- as by rows, because a worker keeps it in memory.
-- Locks: the lease's row (KEY SHARE) and the checkpoint's, until commit. Bounds the transaction's idle time by the ttl.
-- Raises: MI003 lease_lost, MI007 feed_unsafe_here, 42704, 22023.
CREATE FUNCTION mire.fetch_events(
  name text, partition integer, fence bigint, max_count integer DEFAULT 1000, after_position bigint DEFAULT NULL,
  max_bytes integer DEFAULT 4194304)
RETURNS SETOF mire.feed_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  subscription mire.subscriptions;
  progress mire.checkpoints;
  held_back bigint[];
  from_position bigint;
  last_position bigint;
  next_position bigint;
BEGIN
  PERFORM mire_internal.check_count('max_count', max_count);
  PERFORM mire_internal.check_count('max_bytes', max_bytes);
  PERFORM mire_internal.refuse_unsafe_feed();
  progress := mire_internal.enter_partition(name, partition, fence, heartbeat => true);
  subscription := mire_internal.find_subscription(name, partition);
  -- Through, and the others too: acquire opens the next generation. Not here, where a checkpoint in the same transaction would
  -- find its partition gone; nor does it roll back the transaction that gets there.
  IF progress.checkpoint >= subscription.stop_position AND progress.checkpointed_at < now()
     AND NOT mire_internal.is_behind_stop(name) THEN
    PERFORM mire_internal.raise_lease_lost(mire_internal.partition_resource(name, progress.generation, partition), fence,
      'another number of partitions takes over');
  END IF;

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

  RETURN QUERY
    SELECT *
      FROM mire_internal.read_page(
             from_position, last_position, max_count, max_bytes, subscription.categories, subscription.types,
             (SELECT s.epoch FROM mire.store AS s), subscription.partitions, partition, held_back);
  next_position := mire_internal.page_end();
  IF mire_internal.page_events() = 0 AND from_position = progress.checkpoint THEN
    -- Caught up: nothing is in the caller's hands, so the checkpoint moves over holes and filtered events by itself.
    UPDATE mire.checkpoints AS c
       SET checkpoint = next_position, handed_out = next_position, checkpointed_at = clock_timestamp()
     WHERE c.name = fetch_events.name AND c.generation = subscription.generation
       AND c.partition = fetch_events.partition AND c.checkpoint < next_position;
  ELSE
    UPDATE mire.checkpoints AS c
       SET handed_out = next_position
     WHERE c.name = fetch_events.name AND c.generation = subscription.generation
       AND c.partition = fetch_events.partition AND c.handed_out < next_position;
  END IF;
END
$$;
COMMENT ON FUNCTION mire.fetch_events(text, integer, bigint, integer, bigint, integer) IS
'The next events of a partition after its checkpoint, or after after_position (at most what was handed out already: to '
'fetch ahead), and the heartbeat of its lease. At most max_count events and max_bytes of data and metadata, but one event '
'at least. Rows as in read_all: go on after next_position; one row with position NULL '
'when nothing matched. Then handle them and call checkpoint, in one transaction with the read model. Raises MI003 when '
'the lease is lost, MI007, 42704, 22023';
