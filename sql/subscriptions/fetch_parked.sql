-- fetch_parked: the events of those parked streams of a partition that an operator wants handled again, in order, up to
-- what fetch_events has handed out (what comes after is held back until they are through). Nothing while paused, and nothing
-- while something that was handed out is not checkpointed: a worker may still have later events of such a stream in hand,
-- from a page that it fetched before the stream was parked.
-- Locks: the lease's row (KEY SHARE) and the checkpoint's, until commit.   Raises: MI003, 42704, 22023.
CREATE FUNCTION mire.fetch_parked(name text, partition integer, fence bigint, max_count integer DEFAULT 1000,
  max_bytes integer DEFAULT 4194304)
RETURNS SETOF mire.parked_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  subscription mire.subscriptions;
  progress mire.checkpoints;
  event mire.parked_event;
  size bigint;
  bytes bigint;
BEGIN
  PERFORM mire_internal.check_count('max_count', max_count);
  PERFORM mire_internal.check_count('max_bytes', max_bytes);
  progress := mire_internal.enter_partition(name, partition, fence, heartbeat => true);
  subscription := mire_internal.find_subscription(name, partition);
  IF subscription.paused OR progress.checkpoint < progress.handed_out THEN
    RETURN;
  END IF;
  FOR event IN
    SELECT (SELECT s.stream FROM mire.stream_heads AS s WHERE s.stream_no = p.stream_no),
           e.position, e.version, e.event_id, e.type, e.recorded_at, e.data, e.metadata
      FROM mire.parked_events AS p
     CROSS JOIN LATERAL mire_internal.parked_backlog(
             subscription, p.stream_no, p.position, progress.handed_out, max_count) AS e
     WHERE p.name = fetch_parked.name AND p.retry AND p.stream_no % subscription.partitions = fetch_parked.partition
     ORDER BY e.position
     LIMIT max_count
  LOOP
    size := mire_internal.bytes_of(event.data, event.metadata);
    EXIT WHEN bytes + size > max_bytes;
    bytes := coalesce(bytes, 0) + size;
    RETURN NEXT event;
  END LOOP;
  PERFORM mire_internal.free_parked(subscription, progress, NULL);
END
$$;
COMMENT ON FUNCTION mire.fetch_parked(text, integer, bigint, integer, integer) IS
'The events of parked streams that an operator has released (retry_parked, skip_parked), in order, at most max_count and '
'max_bytes of data and metadata (but one event at least). Handle each, then call checkpoint_parked in the same transaction. '
'Call it when everything is checkpointed that fetch_events has handed out: before, it gives nothing. Look here whenever '
'subscription_status shows parked events. Raises MI003';

-- checkpoint_parked: an event that fetch_parked gave is handled, in the caller's transaction.
-- Locks: the lease's row (KEY SHARE), the checkpoint's and the parked event's, until commit.
-- Raises: MI003 lease_lost; 42704 when that stream is not being retried; 22023.
CREATE FUNCTION mire.checkpoint_parked(name text, partition integer, fence bigint, stream text, "position" bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  subscription mire.subscriptions;
  progress mire.checkpoints;
  parked mire.parked_events;
BEGIN
  PERFORM mire_internal.make_durable();
  progress := mire_internal.enter_partition(name, partition, fence, heartbeat => false);
  subscription := mire_internal.find_subscription(name, partition);
  SELECT p.* INTO parked
    FROM mire.parked_events AS p
   WHERE p.name = checkpoint_parked.name AND p.retry
     AND p.stream_no = (SELECT s.stream_no FROM mire.stream_heads AS s WHERE s.stream = checkpoint_parked.stream)
     AND p.stream_no % subscription.partitions = checkpoint_parked.partition
     FOR UPDATE;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_not_parked(name, stream);
  ELSIF checkpoint_parked.position IS NULL
     OR checkpoint_parked.position NOT BETWEEN parked.position AND progress.handed_out THEN
    PERFORM mire_internal.raise_out_of_range('position', format('from %s to %s', parked.position, progress.handed_out));
  END IF;
  UPDATE mire.parked_events AS p
     SET position = checkpoint_parked.position + 1
   WHERE p.name = checkpoint_parked.name AND p.stream_no = parked.stream_no;
  PERFORM mire_internal.free_parked(subscription, progress, parked.stream_no);
END
$$;
COMMENT ON FUNCTION mire.checkpoint_parked(text, integer, bigint, text, bigint) IS
'Tells that an event from fetch_parked is handled; after the last one, once checkpoint has passed it too, the stream is '
'free again. Raises MI003, 42704, 22023';

-- free_parked: lets go of those parked streams (of one, if given) that are through: nothing of what was handed out is left to
-- handle, and the checkpoint has passed what was handled. Before that a crash would have it handed out once more.
CREATE FUNCTION mire_internal.free_parked(subscription mire.subscriptions, progress mire.checkpoints, only_stream bigint)
RETURNS void LANGUAGE sql VOLATILE PARALLEL UNSAFE AS $$
  DELETE FROM mire.parked_events AS p
   WHERE p.name = subscription.name AND p.retry AND p.stream_no % subscription.partitions = progress.partition
     AND (only_stream IS NULL OR p.stream_no = only_stream)
     AND p.position - 1 <= progress.checkpoint
     AND NOT EXISTS (
       SELECT FROM mire_internal.parked_backlog(subscription, p.stream_no, p.position, progress.handed_out, 1))
$$;

-- parked_backlog: the first events of a stream that a subscription still has to handle. Where they begin in the stream is
-- asked first, of the last event that is handled or the first one that is not: from there on the stream's index gives them in
-- order, without a walk through all that was handled long ago; nor through all that comes later, by a loop, because no index
-- tells which version the last position has.
CREATE FUNCTION mire_internal.parked_backlog(
  subscription mire.subscriptions, stream_no bigint, from_position bigint, last_position bigint, max_count integer)
RETURNS SETOF mire.events LANGUAGE plpgsql STABLE PARALLEL SAFE
SET random_page_cost = 0
SET seq_page_cost = 0
AS $$
DECLARE
  after_version CONSTANT bigint := (
    SELECT max(CASE WHEN e.position < from_position THEN e.version ELSE e.version - 1 END)
      FROM mire.events AS e
     WHERE e.position IN (from_position - 1, from_position) AND e.stream_no = parked_backlog.stream_no);
  event mire.events;
  given integer := 0;
BEGIN
  FOR event IN
    SELECT e.*
      FROM mire.events AS e
     WHERE e.stream_no = parked_backlog.stream_no AND e.version > coalesce(after_version, 0)
     ORDER BY e.version
  LOOP
    EXIT WHEN event.position > last_position OR given = max_count;
    CONTINUE WHEN event.position < from_position
      OR subscription.categories IS NOT NULL AND event.category <> ALL (subscription.categories)
      OR subscription.types IS NOT NULL AND event.type <> ALL (subscription.types);
    given := given + 1;
    RETURN NEXT event;
  END LOOP;
END
$$;
