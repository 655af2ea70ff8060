-- Every SQLSTATE of class MI is raised here and nowhere else (docs/ERRORS.md has the table).
-- MESSAGE is for people, DETAIL is JSON for programs, HINT says what to do next.

CREATE FUNCTION mire_internal.raise_version_conflict(stream text, expected bigint, actual bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI001',
    MESSAGE = format('stream "%s" is at version %s, expected %s', stream, actual, expected),
    DETAIL = jsonb_build_object('stream', stream, 'expected', expected, 'actual', actual)::text,
    HINT = 'Load the stream again and decide anew on its current state.';
END
$$;

CREATE FUNCTION mire_internal.raise_stream_not_found(stream text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI002',
    MESSAGE = format('stream "%s" does not exist', stream),
    DETAIL = jsonb_build_object('stream', stream)::text,
    HINT = 'Append with expected version 0 or NULL to create it.';
END
$$;

CREATE FUNCTION mire_internal.raise_lease_lost(resource text, fence bigint, reason text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI003',
    MESSAGE = format('lease on "%s" with fence %s is lost: %s', resource, fence, reason),
    DETAIL = jsonb_build_object('resource', resource, 'fence', fence, 'reason', reason)::text,
    HINT = 'Stop this work, roll back, and acquire the lease again before going on.';
END
$$;

-- item: which event or batch item, NULL when the fault is in the call as a whole.
CREATE FUNCTION mire_internal.raise_invalid(item bigint, field text, reason text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI004',
    MESSAGE = CASE WHEN item IS NULL THEN format('%s %s', field, reason)
                   ELSE format('%s of item %s %s', field, item, reason) END,
    DETAIL = jsonb_build_object('item', item, 'field', field, 'reason', reason)::text,
    HINT = 'Nothing was written. Correct the input; limits are settings that begin with "mire.max_".';
END
$$;

CREATE FUNCTION mire_internal.raise_stream_deleted(stream text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI005',
    MESSAGE = format('stream "%s" was deleted', stream),
    DETAIL = jsonb_build_object('stream', stream)::text,
    HINT = 'A deleted stream''s name is not used again; choose another one.';
END
$$;

CREATE FUNCTION mire_internal.raise_append_only(operation text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI006',
    MESSAGE = format('history is append-only: %s on mire.events is refused', operation),
    DETAIL = jsonb_build_object('operation', operation)::text,
    HINT = 'Append a correcting event; mire.truncate_stream and mire.delete_stream erase on purpose.';
END
$$;

CREATE FUNCTION mire_internal.raise_feed_unsafe(reason text, hint text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI007',
    MESSAGE = format('the feed cannot be read safely here: %s', reason),
    DETAIL = jsonb_build_object('reason', reason)::text,
    HINT = hint;
END
$$;

-- A number or an interval outside its documented range is no MI error but the standard's own.
CREATE FUNCTION mire_internal.raise_out_of_range(field text, allowed text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'invalid_parameter_value',
    MESSAGE = format('%s must be %s', field, allowed),
    DETAIL = jsonb_build_object('field', field, 'allowed', allowed)::text,
    HINT = 'Nothing was changed. Call again with a value in that range.';
END
$$;

-- The sequence of positions was set back: it would fill holes that readers have passed.
CREATE FUNCTION mire_internal.raise_positions_behind(beyond bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'object_not_in_prerequisite_state',
    MESSAGE = format('the sequence mire.positions is at %s, behind the log', mire_internal.head_position()),
    DETAIL = jsonb_build_object('position', beyond)::text,
    HINT = 'It was set back, say by a restore over a live store. An admin''s SELECT mire.new_epoch() jumps ahead of the log.';
END
$$;

-- require_read_committed: for work that must see what others have just committed.
CREATE FUNCTION mire_internal.require_read_committed(what text)
RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('%s does not run in a %s transaction', what, upper(current_setting('transaction_isolation'))),
      HINT = 'Use a READ COMMITTED transaction.';
  END IF;
END
$$;

-- instance NULL: a message of the outbox that is not there, or not any more.
CREATE FUNCTION mire_internal.raise_saga_not_found(saga text, instance text, message_no bigint DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI008',
    MESSAGE = CASE WHEN message_no IS NULL THEN format('saga "%s" has no instance "%s"', saga, instance)
                   ELSE format('the outbox has no message %s', message_no) END,
    DETAIL = jsonb_build_object('saga', saga, 'instance', instance, 'message_no', message_no)::text,
    HINT = 'Names are case-sensitive; mire.saga_list and mire.outbox_status show what is there.';
END
$$;

CREATE FUNCTION mire_internal.raise_saga_state(saga text, instance text, status text, action text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'MI009',
    MESSAGE = format('instance "%s" of saga "%s" is %s: it cannot be %s', instance, saga, status, action),
    DETAIL = jsonb_build_object('saga', saga, 'instance', instance, 'status', status, 'action', action)::text,
    HINT = 'Nothing was changed. mire.saga_describe tells how it came to that.';
END
$$;
