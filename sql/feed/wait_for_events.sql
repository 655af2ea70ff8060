-- wait_for_events: waits until the safe position exceeds `after`, or the timeout has passed. Implemented in
-- pg_mire/src/wait.rs: it sleeps on the backend's latch and holds no snapshot, so vacuum is not held back, and needs
-- no NOTIFY. Not SECURITY DEFINER and without SET, because such a procedure cannot end its caller's snapshot.
-- Locks: nothing.   Raises: MI007; 25001 in a transaction block or function; 22023 for a bad timeout or position.
CREATE PROCEDURE mire.wait_for_events(
  after bigint, timeout interval DEFAULT interval '30 seconds',
  INOUT safe_position bigint DEFAULT NULL, INOUT epoch bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'wait_for_events_wrapper';
COMMENT ON PROCEDURE mire.wait_for_events(bigint, interval, bigint, bigint) IS
'Returns as soon as the safe position exceeds "after", at the latest after the timeout (0 to 1 day). Gives the safe '
'position and the epoch; pass nothing for them. CALL it outside of a transaction block (it raises 25001 inside). Then '
'read with read_all: the safe position is news, not a checkpoint. Raises MI007 where the feed cannot be read';
