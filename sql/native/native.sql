-- What SQL cannot do, implemented in pg_mire/src. Only our own functions call these.

CREATE FUNCTION mire_internal.make_durable()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'make_durable_wrapper';
COMMENT ON FUNCTION mire_internal.make_durable() IS 'Keeps this transaction from being acknowledged before it is durable';

CREATE FUNCTION mire_internal.bound_idle(milliseconds bigint)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'bound_idle_wrapper';
COMMENT ON FUNCTION mire_internal.bound_idle(bigint) IS
'Lowers idle_in_transaction_session_timeout to at most so much, for this transaction';

CREATE FUNCTION mire_internal.settled_position()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'settled_position_wrapper';
COMMENT ON FUNCTION mire_internal.settled_position() IS
'The highest position up to which nothing is in flight; good only for a snapshot taken after the call';

CREATE FUNCTION mire_internal.head_position()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'head_position_wrapper';
COMMENT ON FUNCTION mire_internal.head_position() IS 'The highest position handed out so far, committed or not';

CREATE FUNCTION mire_internal.being_inserted(table_name cstring, index_name cstring, name text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'being_inserted_wrapper';
COMMENT ON FUNCTION mire_internal.being_inserted(cstring, cstring, text) IS
'Whether another open transaction is just inserting this name into a table of ours; never waits';

CREATE FUNCTION mire_internal.setting(name text)
RETURNS bigint LANGUAGE c STABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'setting_wrapper';
COMMENT ON FUNCTION mire_internal.setting(text) IS 'The value of the setting mire.NAME as a number';

CREATE FUNCTION mire_internal.erase_events(stream_no bigint, before_version bigint)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'erase_events_wrapper';
COMMENT ON FUNCTION mire_internal.erase_events(bigint, bigint) IS
'Deletes a stream''s events below a version; the one way past the append-only triggers';

CREATE FUNCTION mire_internal.erasing()
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE STRICT AS 'MODULE_PATHNAME', 'erasing_wrapper';
COMMENT ON FUNCTION mire_internal.erasing() IS 'Whether erase_events is at work right now';

CREATE FUNCTION mire_internal.text_size(jsonb jsonb)
RETURNS bigint LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'text_size_of_wrapper';
COMMENT ON FUNCTION mire_internal.text_size(jsonb) IS 'The bytes of a jsonb as text, without making the text';
