-- mire is what users see; mire_internal holds what only our own functions call, and nobody else gets USAGE on it.
-- Plain CREATE SCHEMA: a schema that somebody made beforehand could hold traps.
CREATE SCHEMA mire;
CREATE SCHEMA mire_internal;
COMMENT ON SCHEMA mire IS 'pg_mire: event streams, a gap-free feed, snapshots and leases';
COMMENT ON SCHEMA mire_internal IS 'pg_mire: helpers of schema mire; not for use';
