-- Results are named composite types: a field can be added later without a new signature.

CREATE TYPE mire.append_result AS (version bigint, position bigint, duplicate boolean);
COMMENT ON TYPE mire.append_result IS
'version: the stream''s version after the append. position: of the last event, NULL when no events were given. '
'duplicate: these events were there already, and this is the first answer again';

CREATE TYPE mire.batch_result AS (
  item integer, outcome text, version bigint, position bigint, actual_version bigint, reason text
);
COMMENT ON TYPE mire.batch_result IS
'item: 1-based. outcome: appended, duplicate, conflict, busy, not_found, deleted or invalid. version, position: of '
'the item''s last event. actual_version: the stream''s version. reason: what to mend in an invalid item';

CREATE TYPE mire.stream_event AS (
  position bigint, version bigint, event_id uuid, type text, recorded_at timestamptz, data jsonb, metadata jsonb
);
COMMENT ON TYPE mire.stream_event IS 'An event as its stream shows it. Its position is not a checkpoint: only the feed gives those';

CREATE TYPE mire.feed_event AS (
  position bigint, stream text, version bigint, event_id uuid, type text, recorded_at timestamptz,
  data jsonb, metadata jsonb, next_position bigint, epoch bigint
);
COMMENT ON TYPE mire.feed_event IS
'An event as the feed shows it. next_position: where to go on after this page. epoch: which history this is';

CREATE TYPE mire.lease_result AS (acquired boolean, fence bigint, holder text, expires_at timestamptz);
COMMENT ON TYPE mire.lease_result IS
'acquired: whether the caller holds the lease now. fence: its token, NULL when not acquired. holder, expires_at: who has it until when';

CREATE TYPE mire.store_result AS (
  store_id uuid, epoch bigint, schema_version integer, extension_version text, created_at timestamptz
);
COMMENT ON TYPE mire.store_result IS 'Who this store is; a client compares schema_version with what it was built for';

-- What append has locked; all NULL for a stream that does not exist.
CREATE TYPE mire_internal.locked_stream AS (stream_no bigint, version bigint, deleted boolean);
