-- subscription_progress: what the view subscription_status shows. Events behind are counted in the subscription's own
-- filter, over at most ten thousand index entries, so that polling it is cheap; lag_is_a_minimum says that there are more.
-- Locks: nothing.   Raises: nothing.
CREATE FUNCTION mire.subscription_progress()
RETURNS TABLE (
  name text, partition integer, partitions integer, categories text[], types text[], paused boolean,
  checkpoint bigint, events_behind bigint, lag_is_a_minimum boolean, time_behind interval,
  holder text, fence bigint, lease_expires_at timestamptz, parked_streams bigint,
  last_error text, failed_at timestamptz, checkpointed_at timestamptz, next_partitions integer, stop_position bigint)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
  SELECT s.name, c.partition, s.partitions, s.categories, s.types, s.paused,
         c.checkpoint, lag.events, lag.is_a_minimum, clock_timestamp() - lag.oldest,
         l.holder, l.fence, l.expires_at,
         (SELECT count(*) FROM mire.parked_events AS p WHERE p.name = s.name AND p.stream_no % s.partitions = c.partition),
         c.last_error, c.failed_at, c.checkpointed_at, s.next_partitions, s.stop_position
    FROM mire.subscriptions AS s
    JOIN mire.checkpoints AS c ON c.name = s.name AND c.generation = s.generation
    LEFT JOIN mire.leases AS l
      ON l.resource = mire_internal.partition_resource(s.name, s.generation, c.partition)
     AND l.expires_at > clock_timestamp()
   CROSS JOIN LATERAL mire_internal.lag_of(s, c.partition, c.checkpoint) AS lag
   ORDER BY s.name, c.partition
$$;
COMMENT ON FUNCTION mire.subscription_progress() IS 'What the view subscription_status shows';

-- lag_of: how many events a partition has still to handle, and when the oldest of them was recorded. Planned with pages for
-- free, as a page is and for the same reason.
CREATE FUNCTION mire_internal.lag_of(
  subscription mire.subscriptions, partition integer, after_position bigint,
  OUT events bigint, OUT is_a_minimum boolean, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET random_page_cost = 0
SET seq_page_cost = 0
AS $$
DECLARE
  cap CONSTANT integer := 10000;
  -- One index scan a category, as in read_page: one over all of them would walk the whole log for a rare one.
  scan CONSTANT text := CASE
    WHEN subscription.categories IS NULL THEN 'SELECT * FROM mire.events AS e WHERE e.position > $1 AND e.position <= $2'
    ELSE mire_internal.merged_scan(cardinality(subscription.categories)) END;
BEGIN
  EXECUTE format($query$
      SELECT count(*) FILTER (WHERE looked.wanted), count(*) = $4, min(looked.recorded_at) FILTER (WHERE looked.wanted)
        FROM (
          SELECT e.recorded_at, e.stream_no %% $6 = $7 AND ($5 IS NULL OR e.type = ANY ($5)) AS wanted
            FROM (%s) AS e
           ORDER BY e.position
           LIMIT $4) AS looked
      $query$, scan)
    INTO events, is_a_minimum, oldest
    USING after_position, 9223372036854775807, subscription.categories, cap, subscription.types, subscription.partitions,
          partition;
END
$$;

CREATE VIEW mire.subscription_status AS SELECT * FROM mire.subscription_progress();
COMMENT ON VIEW mire.subscription_status IS
'One row a partition: definition, checkpoint, events and time behind (lag_is_a_minimum: counting stopped at 10,000 index '
'entries, there may be more), who holds it until when, parked streams, last error, and the change of the number of '
'partitions under way';

-- The few parked streams are looked up one by one: joined, streams and events would be read whole as soon as the planner
-- takes them for many.
CREATE VIEW mire.subscription_errors AS
SELECT p.name, (SELECT s.stream FROM mire.stream_heads AS s WHERE s.stream_no = p.stream_no) AS stream,
       p.position, e.version, e.type, p.error, p.attempts, p.parked_at, p.retry
  FROM mire.parked_events AS p
  LEFT JOIN LATERAL (
    SELECT found.version, found.type FROM mire.events AS found WHERE found.position = p.position LIMIT 1
  ) AS e ON true;
COMMENT ON VIEW mire.subscription_errors IS
'One row a parked stream: the event its handler failed on, with error and attempts. retry: an operator has released it '
'and a worker will handle it again';
