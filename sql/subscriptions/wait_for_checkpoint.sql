-- subscription_checkpoint: how far a subscription is handled: its slowest partition, or the one that a stream is in.
-- Locks: nothing.   Raises: 42704.
CREATE FUNCTION mire.subscription_checkpoint(name text, stream text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  subscription mire.subscriptions := mire_internal.find_subscription(name, 0);
BEGIN
  RETURN (
    SELECT min(c.checkpoint)
      FROM mire.checkpoints AS c
     WHERE c.name = subscription_checkpoint.name AND c.generation = subscription.generation
       AND (subscription_checkpoint.stream IS NULL OR c.partition = (
              SELECT s.stream_no % subscription.partitions
                FROM mire.stream_heads AS s
               WHERE s.stream = subscription_checkpoint.stream)));
END
$$;
COMMENT ON FUNCTION mire.subscription_checkpoint(text, text) IS
'The position up to which a subscription has handled everything: of its slowest partition, or of the one that a stream is '
'in. Raises 42704';

-- wait_for_checkpoint: waits until a subscription has handled a position (read your writes). Like wait_for_events it
-- sleeps on the backend's latch and holds no snapshot between looks (pg_mire/src/wait.rs).
-- Locks: nothing.   Raises: 42704; 25001 in a transaction block or function; 22023 for a bad timeout or position.
CREATE PROCEDURE mire.wait_for_checkpoint(
  name text, "position" bigint, timeout interval DEFAULT interval '30 seconds', stream text DEFAULT NULL,
  INOUT checkpoint bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'wait_for_checkpoint_wrapper';
COMMENT ON PROCEDURE mire.wait_for_checkpoint(text, bigint, interval, text, bigint) IS
'Returns as soon as a subscription has handled "position", at the latest after the timeout (0 to 1 day), and gives its '
'checkpoint: compare, because the timeout raises nothing. With the stream that was appended to only that stream''s partition '
'counts. CALL it outside of a transaction block. Raises 42704, 25001';
