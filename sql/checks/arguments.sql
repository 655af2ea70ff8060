-- Arguments that are no events. Ranges raise 22023 (invalid_parameter_value).

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

-- check_ttl: gives the ttl as plain seconds: with mixed fields ('2 months -59 days') or across a change of the clocks an
-- interval means one thing when it is compared and another when it is added.
CREATE FUNCTION mire_internal.check_ttl(ttl interval)
RETURNS interval LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
  seconds CONSTANT numeric := extract(epoch FROM ttl);
BEGIN
  IF ttl IS NULL OR seconds < 0.01 OR seconds > 86400 THEN
    PERFORM mire_internal.raise_out_of_range('ttl', 'from 10 milliseconds to 1 day');
  END IF;
  RETURN make_interval(secs => seconds::double precision);
END
$$;

-- filter_of: a filter of the feed in the one form in which it is used: sorted, without repeats, NULL when empty.
-- Raises MI004 when it has another shape than a list, holds a NULL or is so long that planning the read takes seconds
-- (one scan a category).
CREATE FUNCTION mire_internal.filter_of(field text, names text[])
RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  PERFORM mire_internal.check_array(field, names, NULL);
  IF array_position(names, NULL) IS NOT NULL THEN
    PERFORM mire_internal.raise_invalid(NULL, field, 'holds a NULL');
  ELSIF cardinality(names) > 1000 THEN
    PERFORM mire_internal.raise_invalid(NULL, field, format('holds %s names, and 1000 are the most', cardinality(names)));
  END IF;
  RETURN (SELECT array_agg(DISTINCT n COLLATE "C") FROM unnest(names) AS n);
END
$$;
