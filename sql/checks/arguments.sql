-- Ranges of numeric arguments; each raises 22023 (invalid_parameter_value).

CREATE FUNCTION mire_internal.check_expected_version(expected_version bigint)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF expected_version < -1 THEN
    PERFORM mire_internal.raise_out_of_range('expected_version',
      'NULL (any), -1 (must exist), 0 (must not exist) or a version');
  END IF;
END
$$;

CREATE FUNCTION mire_internal.check_position(field text, value bigint)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF value IS NULL OR value < 0 THEN
    PERFORM mire_internal.raise_out_of_range(field, '0 or more');
  END IF;
END
$$;

CREATE FUNCTION mire_internal.check_count(field text, value integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF value IS NULL OR value < 1 THEN
    PERFORM mire_internal.raise_out_of_range(field, '1 or more');
  END IF;
END
$$;

CREATE FUNCTION mire_internal.check_ttl(ttl interval)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF ttl IS NULL OR ttl < interval '10 milliseconds' OR ttl > interval '1 day' THEN
    PERFORM mire_internal.raise_out_of_range('ttl', 'from 10 milliseconds to 1 day');
  END IF;
END
$$;
