-- What SQL cannot do, implemented in pg_mire/src. Only our own functions call these.

CREATE FUNCTION mire_internal.begin_append()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'begin_append_wrapper';
COMMENT ON FUNCTION mire_internal.begin_append() IS
'Takes the in-flight lock that holds the feed back below every position this transaction will draw; raises '
'synchronous_commit from off to on and bounds the transaction''s idle time by mire.idle_append_timeout';

CREATE FUNCTION mire_internal.make_durable()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'make_durable_wrapper';
COMMENT ON FUNCTION mire_internal.make_durable() IS 'Raises synchronous_commit from off to on for this transaction';

CREATE FUNCTION mire_internal.bound_idle(milliseconds bigint)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'bound_idle_wrapper';
COMMENT ON FUNCTION mire_internal.bound_idle(bigint) IS
'Lowers idle_in_transaction_session_timeout to at most so much, for this transaction';

CREATE FUNCTION mire_internal.settled_position()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'settled_position_wrapper';
COMMENT ON FUNCTION mire_internal.settled_position() IS
'The highest position below which nothing is in flight; good only for a snapshot taken after the call';

CREATE FUNCTION mire_internal.head_position()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'head_position_wrapper';
COMMENT ON FUNCTION mire_internal.head_position() IS 'The highest position handed out so far, committed or not';

CREATE FUNCTION mire_internal.being_created(stream text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'being_created_wrapper';
COMMENT ON FUNCTION mire_internal.being_created(text) IS
'Whether another open transaction is just creating this stream; never waits';

CREATE FUNCTION mire_internal.setting(name text)
RETURNS bigint LANGUAGE c STABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'setting_wrapper';
COMMENT ON FUNCTION mire_internal.setting(text) IS 'The value of the setting mire.NAME as a number';

CREATE FUNCTION mire_internal.new_event_id()
RETURNS uuid LANGUAGE c VOLATILE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'new_event_id_wrapper';
COMMENT ON FUNCTION mire_internal.new_event_id() IS 'A time-ordered id (UUIDv7)';

CREATE FUNCTION mire_internal.caller()
RETURNS regrole LANGUAGE c STABLE PARALLEL RESTRICTED STRICT AS 'MODULE_PATHNAME', 'caller_wrapper';
COMMENT ON FUNCTION mire_internal.caller() IS 'The role outside of all SECURITY DEFINER functions';

CREATE FUNCTION mire_internal.erase_events(stream_no bigint, before_version bigint)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'erase_events_wrapper';
COMMENT ON FUNCTION mire_internal.erase_events(bigint, bigint) IS
'Deletes a stream''s events below a version; the one way past the append-only triggers';

CREATE FUNCTION mire_internal.erasing()
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'erasing_wrapper';
COMMENT ON FUNCTION mire_internal.erasing() IS 'Whether erase_events is at work right now';
