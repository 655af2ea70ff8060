-- name_fault: what is wrong with the name of a stream, an event type or a resource; NULL when nothing is.
CREATE FUNCTION mire_internal.name_fault(name text)
RETURNS text LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'name_fault_wrapper';

-- check_name: raises MI004 when name_fault finds something.
CREATE FUNCTION mire_internal.check_name(field text, name text)
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
  fault text := mire_internal.name_fault(name);
BEGIN
  IF fault IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, field, fault);
  END IF;
END
$$;
