-- An instance of a saga is a stream, "$saga:<saga>-<instance>". Beside it stands one row with what claims, lists and leases
-- need. Locks are taken in this order: the instance's row, the stream's row, the in-flight lock, rows of the outbox; several
-- instances in the order of (saga, instance).
-- What heartbeats and commits that keep the lease change is in no index: HOT, with room for all rows of a page at once. The
-- columns that change stand together, between those that never do: WAL holds only what differs from the row's former version.
CREATE TABLE mire.sagas (
  stream_no bigint NOT NULL,
  started_at timestamptz NOT NULL,
  changed_at timestamptz NOT NULL,
  lease_expires_at timestamptz NOT NULL DEFAULT '-infinity',
  fence bigint NOT NULL DEFAULT 0,
  due_at timestamptz,
  ended_at timestamptz,
  attempts integer NOT NULL DEFAULT 0,
  topology_version integer NOT NULL CHECK (topology_version >= 0),
  pruned boolean NOT NULL DEFAULT false,
  holder text COLLATE "C",
  status text COLLATE "C" NOT NULL CHECK (
    status IN ('running', 'compensating', 'parked', 'intervention', 'completed', 'compensated', 'failed', 'cancelled')),
  steps text[] COLLATE "C" NOT NULL DEFAULT '{}',
  error text,
  saga text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  PRIMARY KEY (saga, instance)
) WITH (fillfactor = 50);
CREATE INDEX sagas_due ON mire.sagas (saga, topology_version, due_at) WHERE due_at IS NOT NULL; -- noqa: CP04
CREATE INDEX sagas_by_status ON mire.sagas (status, saga, started_at);
CREATE INDEX sagas_to_prune ON mire.sagas (ended_at) WHERE ended_at IS NOT NULL AND NOT pruned; -- noqa: CP04
COMMENT ON TABLE mire.sagas IS 'One row an instance of a saga, for ever: an instance''s name is not used again';
COMMENT ON COLUMN mire.sagas.due_at IS
'When somebody should look at it: a timer, a retry, an answer that arrived; while it is leased, when to look whether it is '
'stranded. NULL: nothing to do until an answer or a signal comes';
COMMENT ON COLUMN mire.sagas.attempts IS 'Drives in a row that ended without a commit, or with an error';
COMMENT ON COLUMN mire.sagas.steps IS 'The steps that are active';
COMMENT ON COLUMN mire.sagas.pruned IS 'Its events are erased; the row stays, so that its name is not used again';

CREATE SEQUENCE mire.outbox_numbers AS bigint CACHE 1;
COMMENT ON SEQUENCE mire.outbox_numbers IS 'message_no of outbox: within an instance in the order of its commits';

CREATE TABLE mire.outbox (
  message_no bigint NOT NULL PRIMARY KEY DEFAULT nextval('mire.outbox_numbers'),
  stream_no bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  due_at timestamptz NOT NULL,
  lease_expires_at timestamptz NOT NULL DEFAULT '-infinity',
  fence bigint NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  request integer NOT NULL,
  activation integer NOT NULL,
  undo boolean NOT NULL,
  awaited boolean NOT NULL DEFAULT true,
  status text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'dead', 'in_doubt')),
  holder text COLLATE "C",
  error text,
  saga text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  step text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  data jsonb NOT NULL,
  UNIQUE (stream_no, key)
) WITH (fillfactor = 70);
CREATE INDEX outbox_due ON mire.outbox (kind, due_at) WHERE status = 'pending';
COMMENT ON TABLE mire.outbox IS 'Requests of sagas that somebody is to send on; a row goes when its answer is settled or its instance pruned';
COMMENT ON COLUMN mire.outbox.key IS 'The idempotency key: the same whenever the request is sent again';
COMMENT ON COLUMN mire.outbox.fence IS '0: never claimed, so certainly never sent';
COMMENT ON COLUMN mire.outbox.awaited IS 'false: dead once, so that its step has failed already, and sent again (outbox_retry)';
