-- saga_list: instances by saga, status, active step, age and error, oldest first. Works on a hot standby as well.
-- Locks: nothing.   Raises: MI004 for a list of another shape; 22023 for an unknown status, a count below 1, an age outside 0 to 100 years.
-- One scan in order for each saga and status. Planned with pages for free, so that what counts is the order.
CREATE FUNCTION mire.saga_list(saga text DEFAULT NULL, statuses text[] DEFAULT NULL, step text DEFAULT NULL,
  min_age interval DEFAULT NULL, error text DEFAULT NULL, max_count integer DEFAULT 100)
RETURNS SETOF mire.saga_info
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET random_page_cost = 0
SET seq_page_cost = 0
AS $$
DECLARE
  wanted CONSTANT text[] := coalesce(mire_internal.filter_of('statuses', statuses), '{running,compensating,parked,intervention}');
  started_before CONSTANT timestamptz := clock_timestamp() - mire_internal.check_age('min_age', coalesce(min_age, '0'));
BEGIN
  PERFORM mire_internal.check_count('max_count', max_count);
  IF NOT wanted <@ '{running,compensating,parked,intervention,completed,compensated,failed,cancelled}' THEN
    PERFORM mire_internal.raise_out_of_range('statuses',
      'of running, compensating, parked, intervention, completed, compensated, failed and cancelled');
  END IF;
  RETURN QUERY
    SELECT l.saga, l.instance, l.topology_version, l.status, l.steps, l.error, l.attempts,
           (SELECT h.version FROM mire.stream_heads AS h WHERE h.stream_no = l.stream_no),
           l.due_at, CASE WHEN l.lease_expires_at > clock_timestamp() THEN l.holder END,
           CASE WHEN l.lease_expires_at > clock_timestamp() THEN l.lease_expires_at END,
           l.started_at, l.changed_at, l.ended_at, l.pruned
      FROM (SELECT s.*
              FROM unnest(wanted) AS w (status)
             CROSS JOIN LATERAL unnest(CASE WHEN saga_list.saga IS NULL THEN mire_internal.sagas_with(w.status)
                                            ELSE ARRAY[saga_list.saga] END) AS n (saga)
             CROSS JOIN LATERAL (
               SELECT s.*
                 FROM mire.sagas AS s
                WHERE s.status = w.status AND s.saga = n.saga AND s.started_at <= started_before
                  AND (saga_list.step IS NULL OR saga_list.step = ANY (s.steps))
                  AND (saga_list.error IS NULL OR strpos(s.error, saga_list.error) > 0)
                ORDER BY s.started_at
                LIMIT max_count) AS s
             ORDER BY s.started_at
             LIMIT max_count) AS l
     ORDER BY l.started_at;
END
$$;
COMMENT ON FUNCTION mire.saga_list(text, text[], text, interval, text, integer) IS
'Instances, oldest first, at most max_count. saga: of this one; statuses: any of these (NULL: those that have not ended); step: '
'while it is active; min_age: started so long ago; error: contains this text. Raises MI004, 22023';

-- sagas_with: the sagas that have instances with a status: one probe of the index a saga.
CREATE FUNCTION mire_internal.sagas_with(status text)
RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  names text[] := '{}';
  name text := '';
BEGIN
  LOOP
    SELECT s.saga INTO name
      FROM mire.sagas AS s
     WHERE s.status = sagas_with.status AND s.saga > name
     ORDER BY s.saga
     LIMIT 1;
    IF NOT FOUND THEN
      RETURN names;
    END IF;
    names := names || name;
  END LOOP;
END
$$;
