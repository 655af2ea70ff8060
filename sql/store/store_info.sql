-- store_info: who this store is. A client calls it once, compares schema_version, and remembers store_id and epoch.
-- Locks: nothing.   Raises: nothing.
CREATE FUNCTION mire.store_info()
RETURNS mire.store_result
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
  SELECT s.store_id, s.epoch, 1,
         (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'pg_mire'),
         s.created_at
    FROM mire.store AS s
$$;
COMMENT ON FUNCTION mire.store_info() IS
'Store id, epoch, schema version, extension version, creation time. Readers that see another epoch than they '
'remember must not go on silently: history has forked (see new_epoch)';
