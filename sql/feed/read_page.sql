-- read_page: the core of read_all and fetch_events: settled events after a position, in position order, each with the
-- position to go on from; one row with position NULL when nothing matched. The caller has taken `settled` before, in a
-- statement of its own. A page ends before the event that would take it beyond max_bytes (NULL: no bound), but not before its
-- first one.
-- Locks: nothing.   Raises: nothing.
--
-- Bytes are counted as the reader gets them: what is stored may be compressed, and a number of ten bytes may be a hundred
-- thousand digits long. What is beyond the bound has been looked at, but its long values have not been fetched.
CREATE FUNCTION mire_internal.read_page(
  after_position bigint, settled bigint, max_count integer, max_bytes integer, categories text[], types text[],
  partitions integer DEFAULT 1, partition integer DEFAULT 0, held_back bigint[] DEFAULT NULL)
RETURNS SETOF mire.feed_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  event mire.feed_event;
  size bigint;
  bytes bigint;
BEGIN
  IF max_bytes IS NULL THEN
    RETURN QUERY
      SELECT *
        FROM mire_internal.scan_page(after_position, settled, max_count, categories, types, partitions, partition, held_back);
    RETURN;
  END IF;
  FOR event IN
    SELECT *
      FROM mire_internal.scan_page(after_position, settled, max_count, categories, types, partitions, partition, held_back)
  LOOP
    size := mire_internal.bytes_of(event.data, event.metadata);
    EXIT WHEN bytes + size > max_bytes;
    bytes := coalesce(bytes, 0) + size;
    RETURN NEXT event;
  END LOOP;
END
$$;

CREATE FUNCTION mire_internal.bytes_of(data jsonb, metadata jsonb)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(octet_length(data::text), 0)::bigint + coalesce(octet_length(metadata::text), 0)
$$;

-- scan_page: a page without a bound of its bytes.
--
-- What the filter leaves out is looked at too, so a filter (by type, partition or stream) looks at no more than mire.scan_budget index entries;
-- where that ended is asked for only when the page did not fill (the last row's CASE). Page and end come from one
-- snapshot (one statement, and scan_end is STABLE): events erased in between would move the end past unread ones. The
-- LEFT JOIN gives the one row that says how far an empty page has looked.
-- Planned with pages for free, so that what counts is the order and the rows looked at: with the usual costs a bitmap scan
-- and a sort of all that is left of a category looks cheaper than the first hundred of its index, or else a walk through
-- everybody's events that knows no budget.
CREATE FUNCTION mire_internal.scan_page(
  after_position bigint, settled bigint, max_count integer, categories text[], types text[],
  partitions integer, partition integer, held_back bigint[])
RETURNS SETOF mire.feed_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET random_page_cost = 0
SET seq_page_cost = 0
AS $$
DECLARE
  budget bigint;
  current_epoch bigint;
BEGIN
  IF types IS NOT NULL OR partitions > 1 OR held_back IS NOT NULL THEN
    budget := mire_internal.setting('scan_budget');
  END IF;
  SELECT s.epoch INTO current_epoch FROM mire.store AS s;

  IF categories IS NULL THEN
    RETURN QUERY
      SELECT p.position, (SELECT s.stream FROM mire.stream_heads AS s WHERE s.stream_no = p.stream_no),
             p.version, p.event_id, p.type, p.recorded_at, p.data, p.metadata,
             CASE WHEN lead(p.position) OVER () IS NOT NULL OR p.position IS NOT NULL AND row_number() OVER () = max_count
                  THEN p.position
                  ELSE mire_internal.scan_end(after_position, settled, categories, budget) END,
             current_epoch
        FROM (SELECT) AS always
        LEFT JOIN (
              SELECT l.*
                FROM (SELECT e.*
                        FROM mire.events AS e
                       WHERE e.position > after_position AND e.position <= settled
                       ORDER BY e.position
                       LIMIT budget) AS l
               WHERE (types IS NULL OR l.type = ANY (types))
                 AND (partitions = 1 OR l.stream_no % partitions = partition)
                 AND (held_back IS NULL OR l.stream_no <> ALL (held_back))
               ORDER BY l.position
               LIMIT max_count) AS p ON true;
  ELSE
    RETURN QUERY EXECUTE format($query$
      SELECT p.position, (SELECT s.stream FROM mire.stream_heads AS s WHERE s.stream_no = p.stream_no),
             p.version, p.event_id, p.type, p.recorded_at, p.data, p.metadata,
             CASE WHEN lead(p.position) OVER () IS NOT NULL OR p.position IS NOT NULL AND row_number() OVER () = $4
                  THEN p.position
                  ELSE mire_internal.scan_end($1, $2, $3, $5) END,
             $6
        FROM (SELECT) AS always
        LEFT JOIN (
              SELECT l.*
                FROM (SELECT e.* FROM (%s) AS e ORDER BY e.position LIMIT $5) AS l
               WHERE ($7 IS NULL OR l.type = ANY ($7))
                 AND ($8 = 1 OR l.stream_no %% $8 = $9)
                 AND ($10 IS NULL OR l.stream_no <> ALL ($10))
               ORDER BY l.position
               LIMIT $4) AS p ON true
      $query$, mire_internal.merged_scan(cardinality(categories)))
      USING after_position, settled, categories, max_count, budget, current_epoch, types, partitions, partition,
            held_back;
  END IF;
END
$$;

-- scan_end: how far a page that did not fill has looked: to the last entry of its budget, or to the settled position.
CREATE FUNCTION mire_internal.scan_end(after_position bigint, settled bigint, categories text[], budget bigint)
RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL UNSAFE AS $$
DECLARE
  reached bigint;
BEGIN
  IF budget IS NULL THEN
    NULL;
  ELSIF categories IS NULL THEN
    SELECT e.position INTO reached
      FROM mire.events AS e
     WHERE e.position > after_position AND e.position <= settled
     ORDER BY e.position
    OFFSET budget - 1 LIMIT 1;
  ELSE
    EXECUTE format('SELECT e.position FROM (%s) AS e ORDER BY e.position OFFSET $4 - 1 LIMIT 1',
                   mire_internal.merged_scan(cardinality(categories)))
      INTO reached
      USING after_position, settled, categories, budget;
  END IF;
  RETURN greatest(after_position, coalesce(reached, settled));
END
$$;

-- merged_scan: the events of several categories: one index scan each, which ORDER BY position merges without a sort,
-- because each is in that order and says so.
-- Made anew for each number of categories, because only a UNION ALL of that many scans can be merged.
-- Parameters: $1 after, $2 settled, $3 categories.
CREATE FUNCTION mire_internal.merged_scan(number integer)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT string_agg(format(
           '(SELECT * FROM mire.events AS e WHERE e.category = $3[%s] AND e.position > $1 AND e.position <= $2'
           ' ORDER BY e.position)', i),
           ' UNION ALL ')
    FROM generate_series(1, number) AS i
$$;
