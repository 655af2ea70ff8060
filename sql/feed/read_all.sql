-- read_all: a page of the feed in position order, complete up to the safe position: a reader that keeps nothing but
-- next_position sees every committed event exactly once.
-- Locks: nothing.   Raises: MI007 feed_unsafe_here, also for a position that this history never handed out; MI004 for a NULL in a filter;
-- 22023 for a negative position or a count below 1.
--
-- The safe position is taken first; each later statement has a snapshot of its own (VOLATILE, READ COMMITTED), and
-- everything up to the safe position is settled for it. Inlined into one statement this would skip events.
CREATE FUNCTION mire.read_all(
  after_position bigint DEFAULT 0, max_count integer DEFAULT 1000,
  categories text[] DEFAULT NULL, types text[] DEFAULT NULL, max_bytes integer DEFAULT NULL)
RETURNS SETOF mire.feed_event
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  settled bigint;
BEGIN
  settled := mire_internal.enter_feed(after_position, max_count, max_bytes);
  RETURN QUERY
    SELECT *
      FROM mire_internal.read_page(
             after_position, settled, max_count, max_bytes,
             mire_internal.filter_of('categories', categories), mire_internal.filter_of('types', types),
             (SELECT s.epoch FROM mire.store AS s));
END
$$;
COMMENT ON FUNCTION mire.read_all(bigint, integer, text[], text[], integer) IS
'The feed after a position, in position order, complete up to the safe position, at most max_count events, and at most '
'max_bytes of data and metadata when given (but one event at least); only of these '
'categories and types when given (NULL or empty: all). Keep next_position of the last row handled and pass it as '
'after_position next time. When nothing matched, one row comes with position NULL and next_position: how far it looked '
'(at most mire.scan_budget events a call). epoch: stop when it is not the one you know. Raises MI007 in REPEATABLE READ '
'and SERIALIZABLE, on a standby, on a logical subscriber, and for a position that was never handed out';

-- read_all_packed: the same page in one value, for drivers: the rows of read_all, each as COPY's binary format has it, without
-- header and trailer. A page is one value in memory here and there, so it is bounded by bytes whatever was said.
-- Locks, Raises: as read_all.
CREATE FUNCTION mire.read_all_packed(
  after_position bigint DEFAULT 0, max_count integer DEFAULT 1000,
  categories text[] DEFAULT NULL, types text[] DEFAULT NULL, max_bytes integer DEFAULT NULL)
RETURNS bytea
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  settled bigint;
BEGIN
  settled := mire_internal.enter_feed(after_position, max_count, max_bytes);
  RETURN mire_internal.read_page_packed(
    after_position, settled, max_count, least(max_bytes, 64 << 20),
    mire_internal.filter_of('categories', categories), mire_internal.filter_of('types', types),
    (SELECT s.epoch FROM mire.store AS s));
END
$$;
COMMENT ON FUNCTION mire.read_all_packed(bigint, integer, text[], text[], integer) IS
'The rows of read_all in one value, which drivers read faster: one row behind the other, each as the binary format of COPY '
'has it (int16 number of fields; for each int32 length, -1 for NULL, and the bytes that the send function of its type '
'gives), text in UTF-8. At most 64 MiB of data and metadata. Arguments and errors are those of read_all';

-- enter_feed: checks what a reader asks for, and gives the highest position that is settled: good for statements that come
-- after this call.
CREATE FUNCTION mire_internal.enter_feed(after_position bigint, max_count integer, max_bytes integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
AS $$
DECLARE
  settled bigint;
BEGIN
  PERFORM mire_internal.check_position('after_position', after_position);
  PERFORM mire_internal.check_count('max_count', max_count);
  PERFORM mire_internal.check_count('max_bytes', coalesce(max_bytes, 1));
  PERFORM mire_internal.refuse_unsafe_feed();
  settled := mire_internal.highest_settled();
  IF after_position > mire_internal.head_position() THEN
    PERFORM mire_internal.raise_feed_unsafe(
      format('position %s was never handed out in this history', after_position),
      'This reader''s checkpoint is from another history (a restore or failover lost its end?): '
      'call mire.new_epoch() and decide where the reader goes on.');
  END IF;
  RETURN settled;
END
$$;
