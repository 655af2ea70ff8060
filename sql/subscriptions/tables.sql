-- A subscription is a filter on the feed with a durable checkpoint for each of its partitions. Who may act on a partition
-- is a lease like any other, on a resource whose name begins with "$subscription/".
CREATE TABLE mire.subscriptions (
  name text COLLATE "C" NOT NULL PRIMARY KEY,
  categories text[] COLLATE "C",
  types text[] COLLATE "C",
  starts_after bigint,
  partitions integer NOT NULL CHECK (partitions BETWEEN 1 AND 1024),
  generation integer NOT NULL DEFAULT 1,
  next_partitions integer,
  stop_position bigint,
  paused boolean NOT NULL DEFAULT false,
  epoch bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE mire.subscriptions IS 'Definitions of subscriptions';
COMMENT ON COLUMN mire.subscriptions.starts_after IS 'The position it began after; NULL: at the end of the feed as it was then';
COMMENT ON COLUMN mire.subscriptions.generation IS 'Counts changes of the number of partitions';
COMMENT ON COLUMN mire.subscriptions.stop_position IS
'While the number of partitions changes: this generation runs up to here, then next_partitions take over';

COMMENT ON COLUMN mire.subscriptions.epoch IS 'The history its checkpoints belong to; confirm_epoch brings it up to the store''s';

-- Apart from the lease: heartbeats and checkpoints do not touch each other's rows. No indexed column changes: HOT.
CREATE TABLE mire.checkpoints (
  name text COLLATE "C" NOT NULL REFERENCES mire.subscriptions ON DELETE CASCADE,
  generation integer NOT NULL,
  partition integer NOT NULL,
  checkpoint bigint NOT NULL,
  handed_out bigint NOT NULL,
  fence bigint NOT NULL DEFAULT 0,
  checkpointed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_error text,
  failed_at timestamptz,
  PRIMARY KEY (name, generation, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE mire.checkpoints IS 'One row a partition: how far it is handled, and how far fetch_events has handed out to this fence';

CREATE TABLE mire.parked_events (
  name text COLLATE "C" NOT NULL REFERENCES mire.subscriptions ON DELETE CASCADE,
  stream_no bigint NOT NULL,
  position bigint NOT NULL,
  error text NOT NULL,
  attempts integer NOT NULL,
  parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  retry boolean NOT NULL DEFAULT false,
  PRIMARY KEY (name, stream_no)
);
COMMENT ON TABLE mire.parked_events IS
'An event that its handler could not handle. Later events of its stream are held back until an operator has it retried or skipped';
COMMENT ON COLUMN mire.parked_events.position IS 'The first event of the stream that is not handled yet';
