-- Whoever has an open append: LOCKTAG_USERLOCK entries with our own field (pg_mire/src/in_flight.rs), in this database.
CREATE FUNCTION mire.open_appends()
RETURNS TABLE (pid integer, gid text, role name, application_name text, state text, holds_back_after bigint,
               age interval)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
  WITH locks AS MATERIALIZED (SELECT * FROM pg_locks)
  SELECT l.pid, p.gid, coalesce(a.usename, p.owner), a.application_name, a.state,
         l.classid::bigint << 32 | l.objid::bigint,
         clock_timestamp() - coalesce(a.xact_start, p.prepared)
    FROM locks AS l
    LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
    -- A prepared transaction has no pid; its lock on its own transaction id tells which one it is.
    LEFT JOIN locks AS own
      ON l.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
     AND own.virtualtransaction = l.virtualtransaction
    LEFT JOIN pg_prepared_xacts AS p ON p.transaction = own.transactionid
   WHERE l.locktype = 'userlock' AND l.objsubid = 19817
     AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
$$;
COMMENT ON FUNCTION mire.open_appends() IS 'What the view feed_blockers shows, without the query';

-- open_append_query: what a session with an open append is running; for admins.
CREATE FUNCTION mire.open_append_query(pid integer)
RETURNS text
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
  SELECT a.query
    FROM pg_stat_activity AS a
   WHERE a.pid = open_append_query.pid AND EXISTS (SELECT FROM mire.open_appends() AS o WHERE o.pid = a.pid)
$$;
COMMENT ON FUNCTION mire.open_append_query(integer) IS 'The query of a session that holds the feed back. For admins';

-- visible_query: the same for whoever is an admin, NULL for others. Not SECURITY DEFINER: it asks as its caller, who is
-- the owner of a materialized view or a definer function where one is in between.
CREATE FUNCTION mire.visible_query(pid integer)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  IF has_function_privilege('mire.open_append_query(integer)', 'EXECUTE') THEN
    RETURN mire.open_append_query(pid);
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION mire.visible_query(integer) IS 'What the view feed_blockers shows as query: NULL but for admins';

CREATE VIEW mire.feed_blockers AS SELECT o.*, mire.visible_query(o.pid) AS query FROM mire.open_appends() AS o;
COMMENT ON VIEW mire.feed_blockers IS
'Open transactions that have appended and hold the feed back: pid, or gid of a prepared transaction; the feed shows '
'nothing above holds_back_after while they are open; age of the transaction; query for admins only. Usually empty or '
'milliseconds old';
