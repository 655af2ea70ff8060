-- saga_describe: an instance in words: how it stands, and a sentence a fact. Works on a hot standby as well.
-- Locks: nothing.   Raises: MI008 for an unknown instance.
CREATE FUNCTION mire.saga_describe(saga text, instance text)
RETURNS SETOF text
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  held mire.sagas;
  message record;
BEGIN
  SELECT s.* INTO held FROM mire.sagas AS s WHERE s.saga = saga_describe.saga AND s.instance = saga_describe.instance;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_saga_not_found(saga, instance);
  END IF;
  RETURN NEXT format('%s %s (topology version %s) is %s%s.', held.saga, held.instance, held.topology_version, held.status,
    CASE WHEN held.pruned THEN '; its history was pruned' ELSE '' END);
  IF held.steps <> '{}' THEN
    RETURN NEXT format('Active: %s.', array_to_string(held.steps, ', '));
  END IF;
  IF held.error IS NOT NULL THEN
    RETURN NEXT format('Error: %s', held.error);
  END IF;
  IF held.attempts > 0 THEN
    RETURN NEXT format('Drives in a row that ended without a commit or with an error: %s.', held.attempts);
  END IF;
  IF held.lease_expires_at > clock_timestamp() THEN
    RETURN NEXT format('Held by %s until %s.', held.holder, mire_internal.in_words(held.lease_expires_at));
  ELSIF held.due_at IS NOT NULL THEN
    RETURN NEXT format('Due at %s.', mire_internal.in_words(held.due_at));
  ELSIF held.ended_at IS NULL THEN
    RETURN NEXT CASE held.status WHEN 'parked' THEN 'Nobody drives it until it is resumed.'
                ELSE 'Nothing happens until an answer, a signal or an operator comes.' END;
  END IF;
  FOR message IN SELECT o.* FROM mire.outbox AS o WHERE o.stream_no = held.stream_no ORDER BY o.message_no LOOP
    RETURN NEXT format('Outbox: message %s (%s for step %s) is %s after %s attempts%s.', message.message_no, message.kind, message.step,
      replace(message.status, '_', ' '), message.attempts, coalesce(': ' || message.error, ''));
  END LOOP;
  RETURN QUERY
    SELECT format('%s  %s  %s', h.version, mire_internal.in_words(h.recorded_at), mire_internal.fact_in_words(h.fact))
      FROM mire.saga_history(saga_describe.saga, saga_describe.instance) AS h;
END
$$;
COMMENT ON FUNCTION mire.saga_describe(text, text) IS
'An instance in words, line by line: how it stands, its messages, and a sentence for each fact of its history. Raises MI008';

CREATE FUNCTION mire_internal.in_words(moment timestamptz)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') || ' UTC';
END
$$;

-- fact_in_words: a sentence; a fact of a later release is shown as it is.
CREATE FUNCTION mire_internal.fact_in_words(fact jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  step CONSTANT text := CASE WHEN (fact -> 'undo') = 'true' THEN 'undo of ' ELSE 'step ' END || coalesce(fact ->> 'step', '');
  said CONSTANT text := coalesce(': ' || nullif(coalesce(fact ->> 'error', fact ->> 'reason', fact ->> 'why'), ''), '');
  asked_by CONSTANT text := coalesce(' by ' || nullif(fact ->> 'by', ''), '');
BEGIN
  RETURN CASE fact ->> 'fact'
    WHEN 'started' THEN 'started'
      || coalesce(' by step ' || (fact #>> '{parent,step}') || ' of ' || (fact #>> '{parent,saga}') || ' ' || (fact #>> '{parent,instance}'), '')
    WHEN 'activated' THEN format('%s is active (activation %s): asks for %s', step, fact ->> 'activation', coalesce(nullif(concat_ws(', ',
      VARIADIC ARRAY(SELECT r ->> 'type' FROM jsonb_array_elements(
        CASE jsonb_typeof(fact -> 'requests') WHEN 'array' THEN fact -> 'requests' ELSE '[]' END) AS r)), ''), 'nothing'))
      || coalesce(', within ' || (fact ->> 'timeout_ms') || ' ms', '')
    WHEN 'answered' THEN format('%s was answered%s%s%s', step, coalesce(': ' || (fact ->> 'type'), ''),
      CASE WHEN (fact -> 'ok') = 'false' THEN ', a failure' ELSE '' END, said)
    WHEN 'attempt_failed' THEN format('attempt %s of %s failed, next in %s ms%s', fact ->> 'attempt', step, fact ->> 'retry_ms', said)
    WHEN 'completed' THEN step || CASE WHEN (fact -> 'undo') = 'true' THEN ' is done' ELSE ' completed' END
    WHEN 'failed' THEN step || ' failed' || said
    WHEN 'timed_out' THEN step || ' was not answered in time'
    WHEN 'skipped' THEN step || ' is skipped' || said
    WHEN 'abandoned' THEN step || ' is given up'
    WHEN 'compensation_started' THEN 'turns back, because ' || coalesce(mire_internal.cause_in_words(fact -> 'cause'), 'of something')
    WHEN 'ended' THEN 'ended: ' || coalesce(fact ->> 'outcome', '') || said
    WHEN 'intervention_needed' THEN 'needs an operator' || said
    WHEN 'signalled' THEN format('signal %s came', fact ->> 'signal')
    WHEN 'cancel_requested' THEN 'cancelled' || asked_by || said
    WHEN 'compensation_requested' THEN 'told to turn back' || asked_by || said
    WHEN 'retry_requested' THEN format('told to try %s again', coalesce('the undo of ' || (fact ->> 'step'), 'every failed undo')) || asked_by
    WHEN 'skip_requested' THEN format('told to skip the undo of %s', fact ->> 'step') || asked_by
    WHEN 'parked' THEN 'parked' || asked_by || said
    WHEN 'resumed' THEN 'resumed' || asked_by
    WHEN 'migrated' THEN format('moved from topology version %s to %s', fact ->> 'from', fact ->> 'to') || asked_by
    ELSE fact::text
  END;
END
$$;

CREATE FUNCTION mire_internal.cause_in_words(cause jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN CASE cause ->> 'why'
    WHEN 'step_failed' THEN format('step %s failed: %s', cause ->> 'step', cause ->> 'error')
    WHEN 'timed_out' THEN format('step %s was not answered in time', cause ->> 'step')
    WHEN 'terminal_failure' THEN format('step %s was reached', cause ->> 'step')
    WHEN 'signal' THEN format('signal %s came', cause ->> 'signal')
    WHEN 'cancelled' THEN 'it was cancelled' || coalesce(': ' || nullif(cause ->> 'reason', ''), '')
    WHEN 'forced' THEN 'an operator said so' || coalesce(': ' || nullif(cause ->> 'reason', ''), '')
    WHEN 'late_answer' THEN format('step %s succeeded after it had been given up', cause ->> 'step')
    ELSE cause::text
  END;
END
$$;
