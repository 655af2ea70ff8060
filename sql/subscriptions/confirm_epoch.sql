-- confirm_epoch: an operator has looked at a subscription's read model after history forked, and lets it go on.
-- Locks: the subscription's row, until commit.   Raises: 42704.
CREATE FUNCTION mire.confirm_epoch(name text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  confirmed bigint;
BEGIN
  PERFORM mire_internal.make_durable();
  UPDATE mire.subscriptions AS s
     SET epoch = (SELECT store.epoch FROM mire.store AS store)
   WHERE s.name = confirm_epoch.name
  RETURNING s.epoch INTO confirmed;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_no_subscription(name);
  END IF;
  RETURN confirmed;
END
$$;
COMMENT ON FUNCTION mire.confirm_epoch(text) IS
'After new_epoch: the read model of this subscription fits the history as it is now (or was reset), its checkpoints may '
'be used. Until then acquire_subscription tells the old epoch and workers stop. For admins. Raises 42704';
