CREATE TYPE mire.subscription_lease AS (
  acquired boolean, fence bigint, checkpoint bigint, holder text, expires_at timestamptz, epoch bigint
);
COMMENT ON TYPE mire.subscription_lease IS
'acquired: whether the caller holds the partition now. fence: its token, NULL when not acquired. checkpoint: the last '
'position handled. holder, expires_at: who has it until when. epoch: which history the checkpoint belongs to';

CREATE TYPE mire.parked_event AS (
  stream text, position bigint, version bigint, event_id uuid, type text, recorded_at timestamptz, data jsonb, metadata jsonb
);
COMMENT ON TYPE mire.parked_event IS 'An event of a parked stream that is to be handled again';

CREATE TYPE mire.attended_partition AS (
  name text, partition integer, resource text, holder text, fence bigint, expires_in interval,
  workers integer, rank integer, paused boolean, parked_ready boolean, epoch bigint, store_epoch bigint
);
COMMENT ON TYPE mire.attended_partition IS
'resource: what its lease is on. holder, fence, expires_in: who has it for how long yet, NULL when it is free. workers: how '
'many attend to the subscription; rank: which of them the caller is, from 0. parked_ready: fetch_parked has something. '
'epoch: the history the checkpoints belong to; store_epoch: the store''s';

-- What a page of a subscription is made of.
CREATE TYPE mire_internal.page AS (
  after_position bigint, settled bigint, checkpoint bigint, generation integer, categories text[], types text[],
  partitions integer, held_back bigint[], epoch bigint
);
