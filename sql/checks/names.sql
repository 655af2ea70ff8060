-- name_fault: what is wrong with the name of a stream, an event type or a resource; NULL when nothing is.
-- No SET clause: it runs per event.
CREATE FUNCTION mire_internal.name_fault(name text)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
  IF name IS NULL THEN
    RETURN 'is null';
  ELSIF name = '' THEN
    RETURN 'is empty';
  ELSIF octet_length(name) > mire_internal.setting('max_name_bytes') THEN
    RETURN format('has %s bytes, and mire.max_name_bytes is %s',
                  octet_length(name), mire_internal.setting('max_name_bytes'));
  ELSIF name COLLATE "C" ~ '[\u0001-\u001F\u007F-\u009F]' THEN
    RETURN 'holds a control character';
  ELSIF starts_with(name, '$') THEN
    RETURN 'begins with $, which is reserved for the store itself';
  END IF;
  RETURN NULL;
END
$$;

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
