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
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  page mire_internal.page;
BEGIN
  page := mire_internal.enter_page(name, partition, fence, max_count, after_position, max_bytes);
  RETURN QUERY
    SELECT *
      FROM mire_internal.read_page(
             page.after_position, page.settled, max_count, max_bytes, page.categories, page.types,
             page.epoch, page.partitions, partition, page.held_back);
  PERFORM mire_internal.leave_page(name, partition, page);
END
$$;
COMMENT ON FUNCTION mire.fetch_events(text, integer, bigint, integer, bigint, integer) IS
'The next events of a partition after its checkpoint, or after after_position (at most what was handed out already: to '
'fetch ahead), and the heartbeat of its lease. At most max_count events and max_bytes of data and metadata, but one event '
'at least. Rows as in read_all: go on after next_position; one row with position NULL '
'when nothing matched. Then handle them and call checkpoint, in one transaction with the read model. Raises MI003 when '
'the lease is lost, MI007, 42704, 22023';

-- fetch_events_packed: the same page in one value, for drivers; see read_all_packed.
-- Locks, Raises: as fetch_events.
CREATE FUNCTION mire.fetch_events_packed(
  name text, partition integer, fence bigint, max_count integer DEFAULT 1000, after_position bigint DEFAULT NULL,
  max_bytes integer DEFAULT 4194304)
RETURNS bytea
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  page mire_internal.page;
  packed bytea;
BEGIN
  page := mire_internal.enter_page(name, partition, fence, max_count, after_position, max_bytes);
  packed := mire_internal.read_page_packed(
    page.after_position, page.settled, max_count, least(max_bytes, 64 << 20), page.categories, page.types,
    page.epoch, page.partitions, partition, page.held_back);
  PERFORM mire_internal.leave_page(name, partition, page);
  RETURN packed;
END
$$;
COMMENT ON FUNCTION mire.fetch_events_packed(text, integer, bigint, integer, bigint, integer) IS
'The rows of fetch_events in one value, as read_all_packed gives them; arguments, errors and what becomes of lease and '
'checkpoint are those of fetch_events. At most 64 MiB of data and metadata';

-- enter_page: heartbeat and checks of a fetch; says what its page is made of.
CREATE FUNCTION mire_internal.enter_page(
  name text, partition integer, fence bigint, max_count integer, after_position bigint, max_bytes integer)
RETURNS mire_internal.page
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
  subscription mire.subscriptions;
  progress mire.checkpoints;
  page mire_internal.page;
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

  page.after_position := coalesce(after_position, progress.checkpoint);
  IF page.after_position NOT BETWEEN progress.checkpoint AND progress.handed_out THEN
    PERFORM mire_internal.raise_out_of_range('after_position',
      format('from %s (the checkpoint) to %s (handed out so far)', progress.checkpoint, progress.handed_out));
  END IF;
  page.settled := least(mire_internal.highest_settled(), subscription.stop_position);
  IF subscription.paused THEN
    page.settled := page.after_position;
  END IF;
  page.checkpoint := progress.checkpoint;
  page.generation := subscription.generation;
  page.categories := subscription.categories;
  page.types := subscription.types;
  page.partitions := subscription.partitions;
  page.held_back := (SELECT array_agg(p.stream_no) FROM mire.parked_events AS p WHERE p.name = enter_page.name);
  page.epoch := (SELECT s.epoch FROM mire.store AS s);
  RETURN page;
END
$$;

-- leave_page: what was handed out, remembered; and where nothing was, the checkpoint moves along.
CREATE FUNCTION mire_internal.leave_page(name text, partition integer, page mire_internal.page)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
  next_position bigint := mire_internal.page_end();
BEGIN
  IF mire_internal.page_events() = 0 AND page.after_position = page.checkpoint THEN
    -- Caught up: nothing is in the caller's hands, so the checkpoint moves over holes and filtered events by itself.
    UPDATE mire.checkpoints AS c
       SET checkpoint = next_position, handed_out = next_position, checkpointed_at = clock_timestamp()
     WHERE c.name = leave_page.name AND c.generation = page.generation
       AND c.partition = leave_page.partition AND c.checkpoint < next_position;
  ELSE
    UPDATE mire.checkpoints AS c
       SET handed_out = next_position
     WHERE c.name = leave_page.name AND c.generation = page.generation
       AND c.partition = leave_page.partition AND c.handed_out < next_position;
  END IF;
END
$$;
