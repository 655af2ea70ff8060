-- checkpoint: remembers that a partition is handled up to a position, in the caller's transaction: with the read model,
-- or not at all.
-- Locks: the lease's row (KEY SHARE) and the checkpoint's, until commit.
-- Raises: MI003 lease_lost, so that the whole transaction of a superseded worker is refused; 42704; 22023 for a position
-- before the checkpoint or beyond what was handed out under this fence.
CREATE FUNCTION mire.checkpoint(name text, partition integer, fence bigint, "position" bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
  progress mire.checkpoints;
BEGIN
  PERFORM mire_internal.make_durable();
  progress := mire_internal.enter_partition(name, partition, fence, heartbeat => false);
  IF checkpoint.position IS NULL OR checkpoint.position NOT BETWEEN progress.checkpoint AND progress.handed_out THEN
    PERFORM mire_internal.raise_out_of_range('position',
      format('from %s (the checkpoint) to %s (handed out under this fence)', progress.checkpoint, progress.handed_out));
  END IF;
  UPDATE mire.checkpoints AS c
     SET checkpoint = checkpoint.position, checkpointed_at = clock_timestamp(), last_error = NULL, failed_at = NULL
   WHERE c.name = checkpoint.name AND c.generation = progress.generation AND c.partition = checkpoint.partition;
END
$$;
COMMENT ON FUNCTION mire.checkpoint(text, integer, bigint, bigint) IS
'Remembers that a partition is handled up to a position that fetch_events has handed out (next_position of the last row '
'handled). Call it in the transaction that updates the read model. Raises MI003 when the lease is lost: roll back; 22023 '
'for a position before the checkpoint or beyond what was handed out';
