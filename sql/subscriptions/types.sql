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
