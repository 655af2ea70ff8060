-- read_all: a page of the feed in position order, complete up to the safe position: a reader that keeps nothing but
-- next_position sees every committed event exactly once.
-- Locks: nothing.   Raises: MI007 feed_unsafe_here, also for a position that this history never handed out; 22023 for a negative position or a count below 1.
--
-- The safe position is taken first; each later statement has a snapshot of its own (VOLATILE, READ COMMITTED), and
-- everything up to the safe position is settled for it. Inlined into one statement this would skip events.
CREATE FUNCTION mire.read_all(
  after_position bigint DEFAULT 0, max_count integer DEFAULT 1000,
  categories text[] DEFAULT NULL, types text[] DEFAULT NULL)
RETURNS SETOF mire.feed_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  wanted CONSTANT text[] := (SELECT array_agg(DISTINCT c) FROM unnest(categories) AS c WHERE c IS NOT NULL);
  kinds CONSTANT text[] := nullif(types, '{}');
  last_position bigint;
  current_epoch bigint;
BEGIN
  PERFORM mire_internal.check_position('after_position', after_position);
  PERFORM mire_internal.check_count('max_count', max_count);
  PERFORM mire_internal.refuse_unsafe_feed();
  last_position := mire_internal.settled_position();
  IF after_position > mire_internal.head_position() THEN
    PERFORM mire_internal.raise_feed_unsafe(
      format('position %s was never handed out in this history', after_position),
      'This reader''s checkpoint is from another history (a restore or failover lost its end?): '
      'call mire.new_epoch() and decide where the reader goes on.');
  END IF;
  IF kinds IS NOT NULL THEN
    last_position := mire_internal.scan_end(after_position, last_position, wanted);
  END IF;
  SELECT s.epoch INTO current_epoch FROM mire.store AS s;

  IF wanted IS NULL THEN
    RETURN QUERY
      SELECT p.position, (SELECT s.stream FROM mire.stream_heads AS s WHERE s.stream_no = p.stream_no),
             p.version, p.event_id, p.type, p.recorded_at, p.data, p.metadata,
             CASE WHEN lead(p.position) OVER w IS NOT NULL OR row_number() OVER w = max_count
                  THEN p.position ELSE last_position END,
             current_epoch
        FROM (SELECT e.*
                FROM mire.events AS e
               WHERE e.position > after_position AND e.position <= last_position
                 AND (kinds IS NULL OR e.type = ANY (kinds))
               ORDER BY e.position
               LIMIT max_count) AS p
      WINDOW w AS (ORDER BY p.position);
  ELSE
    RETURN QUERY EXECUTE mire_internal.merged_categories_query(cardinality(wanted))
      USING wanted, after_position, last_position, kinds, max_count, current_epoch;
  END IF;

  IF NOT FOUND THEN
    RETURN NEXT ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                    greatest(after_position, last_position), current_epoch)::mire.feed_event;
  END IF;
END
$$;
COMMENT ON FUNCTION mire.read_all(bigint, integer, text[], text[]) IS
'The feed after a position, in position order, complete up to the safe position, at most max_count events; only of these '
'categories and types when given (NULL or empty: all). Keep next_position of the last row handled and pass it as '
'after_position next time. When nothing matched, one row comes with position NULL and next_position: how far it looked '
'(at most mire.scan_budget events a call). epoch: stop when it is not the one you know. Raises MI007 in REPEATABLE READ '
'and SERIALIZABLE, on a standby, on a logical subscriber, and for a position that was never handed out';

-- scan_end: how far a read with a type filter looks, so that a filter that hardly ever matches costs no more than
-- mire.scan_budget index entries (a category) a call.
CREATE FUNCTION mire_internal.scan_end(after_position bigint, settled bigint, categories text[])
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
DECLARE
  budget CONSTANT bigint := mire_internal.setting('scan_budget');
  reached bigint;
BEGIN
  IF categories IS NULL THEN
    SELECT e.position INTO reached
      FROM mire.events AS e
     WHERE e.position > after_position AND e.position <= settled
     ORDER BY e.position
    OFFSET budget - 1 LIMIT 1;
  ELSE
    SELECT min(r.position) INTO reached
      FROM unnest(categories) AS c (category)
     CROSS JOIN LATERAL (
       SELECT e.position
         FROM mire.events AS e
        WHERE e.category = c.category COLLATE "C" AND e.position > after_position AND e.position <= settled
        ORDER BY e.position
       OFFSET budget - 1 LIMIT 1) AS r;
  END IF;
  RETURN coalesce(reached, settled);
END
$$;

-- merged_categories_query: read_all for several categories: one index scan each, merged in position order without a
-- sort. Made anew for each number of categories, because only a UNION ALL of that many scans can be merged.
-- Parameters: $1 categories, $2 after, $3 last, $4 types, $5 max_count, $6 epoch.
CREATE FUNCTION mire_internal.merged_categories_query(number integer)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT format($query$
      SELECT p.position, (SELECT s.stream FROM mire.stream_heads AS s WHERE s.stream_no = p.stream_no),
             p.version, p.event_id, p.type, p.recorded_at, p.data, p.metadata,
             CASE WHEN lead(p.position) OVER w IS NOT NULL OR row_number() OVER w = $5
                  THEN p.position ELSE $3 END,
             $6
        FROM (SELECT * FROM (%s) AS e
               WHERE ($4 IS NULL OR e.type = ANY ($4))
               ORDER BY e.position
               LIMIT $5) AS p
      WINDOW w AS (ORDER BY p.position)
    $query$,
    string_agg(format(
      '(SELECT * FROM mire.events AS e WHERE e.category = $1[%s] AND e.position > $2 AND e.position <= $3)', i),
      ' UNION ALL '))
    FROM generate_series(1, number) AS i
$$;
