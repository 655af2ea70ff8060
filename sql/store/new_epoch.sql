-- new_epoch: the documented step after a restore to a point in time, a failover to an asynchronous standby, or a
-- dump whose original lived on: positions and fences that the lost history handed out are jumped over, and the
-- store's epoch changes, which readers see and refuse to cross silently. All leases end.
-- Locks: the store's row and those of leases, held instances and messages, until commit.   Raises: nothing of its own.
CREATE FUNCTION mire.new_epoch()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  -- Far above anything a lost history can have handed out; 2^53 leaves room for nine thousand epochs.
  jump CONSTANT bigint := 1000000000000;
  next_epoch bigint;
BEGIN
  PERFORM mire_internal.make_durable();
  SELECT greatest(s.epoch + 1, mire_internal.epoch_of(clock_timestamp())) INTO next_epoch
    FROM mire.store AS s
     FOR UPDATE;
  -- Appends that run meanwhile draw from below or above the jump; their in-flight locks hold either way.
  PERFORM setval('mire.positions', (greatest(nextval('mire.positions'),
    (SELECT e.position FROM mire.events AS e ORDER BY e.position DESC LIMIT 1)) / jump + 1) * jump);
  PERFORM setval('mire.fences', (greatest(nextval('mire.fences'), (SELECT max(l.fence) FROM mire.leases AS l)) / jump + 1) * jump);
  -- The lost history may have given these leases to others.
  UPDATE mire.leases AS l SET expires_at = '-infinity' WHERE l.expires_at > '-infinity';
  UPDATE mire.sagas AS s SET lease_expires_at = '-infinity' WHERE s.lease_expires_at > '-infinity';
  UPDATE mire.outbox AS o SET lease_expires_at = '-infinity' WHERE o.lease_expires_at > '-infinity';
  UPDATE mire.store SET epoch = next_epoch;
  RETURN next_epoch;
END
$$;
COMMENT ON FUNCTION mire.new_epoch() IS
'Starts a new epoch after history has forked (point-in-time recovery, failover to an asynchronous standby): jumps '
'positions and fences to the next multiple of 10^12, ends all leases and returns the new epoch, which feed reads and waits carry. For admins';

CREATE FUNCTION mire_internal.epoch_of(moment timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
  SELECT (extract(epoch FROM moment) * 1000000)::bigint;
END;

-- pg_dump's copy of the row replaces the one that CREATE EXTENSION makes in the new database.
CREATE FUNCTION mire_internal.keep_one_store()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM mire.store;
  RETURN NEW;
END
$$;
CREATE TRIGGER keep_one_store BEFORE INSERT ON mire.store
  FOR EACH ROW EXECUTE FUNCTION mire_internal.keep_one_store();
ALTER TABLE mire.store ENABLE ALWAYS TRIGGER keep_one_store;

INSERT INTO mire.store (store_id, epoch, created_at)
VALUES (gen_random_uuid(), mire_internal.epoch_of(clock_timestamp()), clock_timestamp());
