-- stream_version: the stream's current version, 0 when it does not exist. Works on a hot standby as well.
-- Locks: nothing, so the answer may be old when it arrives; append checks for itself.   Raises: nothing.
CREATE FUNCTION mire.stream_version(stream text)
RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
BEGIN
  RETURN coalesce((SELECT s.version FROM mire.stream_heads AS s WHERE s.stream = stream_version.stream), 0);
END
$$;
COMMENT ON FUNCTION mire.stream_version(text) IS 'The stream''s current version; 0 when it does not exist';
