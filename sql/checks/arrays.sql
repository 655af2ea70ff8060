-- check_array: raises MI004 unless the array has the right shape and length (NULL length: any): arrays are
-- one-dimensional and start at 1, so that item i is element i everywhere.
CREATE FUNCTION mire_internal.check_array(field text, items anyarray, length integer)
RETURNS void LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'check_array_wrapper';
