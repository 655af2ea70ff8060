-- check_array: raises MI004 unless the array has the right shape and length (NULL length: any): arrays are
-- one-dimensional and start at 1, so that item i is element i everywhere.
CREATE FUNCTION mire_internal.check_array(field text, items anyarray, length integer)
RETURNS void LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'check_array_wrapper';

-- check_events: raises MI004 for the first thing wrong with the events of one append.
CREATE FUNCTION mire_internal.check_events(types text[], data jsonb[], metadata jsonb[], ids uuid[])
RETURNS void LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'check_events_wrapper';
