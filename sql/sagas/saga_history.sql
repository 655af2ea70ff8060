-- saga_history: what happened to an instance, fact by fact. Works on a hot standby as well.
-- Locks: nothing.   Raises: nothing. An unknown or pruned instance has no rows.
CREATE FUNCTION mire.saga_history(saga text, instance text)
RETURNS SETOF mire.saga_fact
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  RETURN QUERY
    SELECT e.version, e.recorded_at, f.ord::integer, f.fact
      FROM mire.sagas AS s
     INNER JOIN mire.events AS e ON e.stream_no = s.stream_no
     CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'facts') WITH ORDINALITY AS f (fact, ord)
     WHERE s.saga = saga_history.saga AND s.instance = saga_history.instance
     ORDER BY e.version, f.ord;
END
$$;
COMMENT ON FUNCTION mire.saga_history(text, text) IS
'An instance''s facts in order: version of the event that has it, when it was recorded, its number in that event, and the '
'fact. No rows: no such instance, or its history was pruned';
