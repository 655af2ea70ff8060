-- read_page: the core of read_all and fetch_events: settled events after a position, in position order, each with the
-- position to go on from; one row with position NULL when nothing matched. The caller has taken `settled` before, in a
-- statement of its own; the page's scan has a snapshot of its own. A page ends before the event that would take it beyond
-- max_bytes (NULL: no bound), but not before its first one.
-- Implemented in pg_mire/src/page: each event goes straight from the executor into the answer. A statement with the same
-- result (names, windows, a loop that counts bytes) costs about twice as much.
-- Locks: nothing.   Raises: nothing.
--
-- What the filter leaves out is looked at too, so a filter (by type, partition or stream) looks at no more than mire.scan_budget index
-- entries. Page and end come from one scan, and so from one snapshot: events erased in between would move the end past
-- unread ones.
-- Bytes are counted as the reader gets them: what is stored may be compressed, and a number of ten bytes may be a hundred
-- thousand digits long.
-- Planned with pages for free, so that what counts is the order and the rows looked at: with the usual costs a bitmap scan
-- and a sort of all that is left of a category looks cheaper than the first hundred of its index, or else a walk through
-- everybody's events that knows no budget.
CREATE FUNCTION mire_internal.read_page(
  after_position bigint, settled bigint, max_count integer, max_bytes integer, categories text[], types text[], epoch bigint,
  partitions integer DEFAULT 1, partition integer DEFAULT 0, held_back bigint[] DEFAULT NULL)
RETURNS SETOF mire.feed_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET random_page_cost = 0
SET seq_page_cost = 0
AS 'MODULE_PATHNAME', 'read_page_wrapper';

-- The same in one value; see mire.read_all_packed.
CREATE FUNCTION mire_internal.read_page_packed(
  after_position bigint, settled bigint, max_count integer, max_bytes integer, categories text[], types text[], epoch bigint,
  partitions integer DEFAULT 1, partition integer DEFAULT 0, held_back bigint[] DEFAULT NULL)
RETURNS bytea
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET random_page_cost = 0
SET seq_page_cost = 0
AS 'MODULE_PATHNAME', 'read_page_packed_wrapper';

-- page_end, page_events: where to go on after the page that read_page has just given in this session, and how many events it has.
CREATE FUNCTION mire_internal.page_end()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'page_end_wrapper';

CREATE FUNCTION mire_internal.page_events()
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'page_events_wrapper';

CREATE FUNCTION mire_internal.bytes_of(data jsonb, metadata jsonb)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(mire_internal.text_size(data), 0) + coalesce(mire_internal.text_size(metadata), 0)
$$;

-- page_scan: the statement that read_page runs: everything, or so many categories. In the order and with all columns of the
-- table, so that rows come as they are stored.
-- Parameters: $1 after, $2 settled, $3 categories, $4 how many events to look at.
CREATE FUNCTION mire_internal.page_scan(categories integer)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT format(
    'SELECT e.position, e.stream_no, e.version, e.event_id, e.recorded_at, e.category, e.type, e.data, e.metadata'
    ' FROM %s ORDER BY e.position LIMIT $4',
    CASE categories
      WHEN 0 THEN 'mire.events AS e WHERE e.position > $1 AND e.position <= $2'
      ELSE '(' || mire_internal.merged_scan(categories) || ') AS e'
    END)
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
