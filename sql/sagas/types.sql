CREATE TYPE mire.saga_result AS (item integer, outcome text, version bigint, fence bigint, reason text);
COMMENT ON TYPE mire.saga_result IS
'item: 1-based. outcome: what became of it. version: the instance''s. fence: token of the lease, when it is held after the '
'call. reason: what to mend in an invalid item, or a word about another outcome';

CREATE TYPE mire.claimed_saga AS (
  saga text, instance text, topology_version integer, status text, fence bigint, version bigint, attempts integer,
  now timestamptz, events jsonb, next_due_at timestamptz
);
COMMENT ON TYPE mire.claimed_saga IS
'events: the whole history, an array of {"version", "at", "facts"}, at in microseconds since 1970. now: the database''s '
'clock. attempts: drives in a row that ended without a commit or with an error. A claim''s last row has no saga, and '
'next_due_at tells when to claim again';

CREATE TYPE mire.renewed_item AS (item integer, renewed boolean);
COMMENT ON TYPE mire.renewed_item IS
'item: 1-based. renewed: false when the lease is lost; NULL when somebody''s transaction has the row just now: ask again';

CREATE TYPE mire.outbox_message AS (
  message_no bigint, saga text, instance text, step text, undo boolean, activation integer, request integer, key text, kind text,
  data jsonb, attempts integer, fence bigint, next_due_at timestamptz
);
COMMENT ON TYPE mire.outbox_message IS
'key: the idempotency key, the same whenever the message is sent again. kind: the request''s type. attempts: those before this '
'one. fence: the token for outbox_ack and outbox_renew. A claim''s last row has no message_no, and next_due_at tells when to '
'claim again';

CREATE TYPE mire.saga_info AS (
  saga text, instance text, topology_version integer, status text, steps text[], error text, attempts integer, version bigint,
  due_at timestamptz, holder text, lease_expires_at timestamptz, started_at timestamptz, changed_at timestamptz, ended_at timestamptz,
  pruned boolean
);
COMMENT ON TYPE mire.saga_info IS
'steps: those that are active. attempts: drives in a row that ended without a commit or with an error. due_at: when somebody '
'is to look at it. holder: who holds it until lease_expires_at, NULL when nobody does. pruned: its history is erased';

CREATE TYPE mire.saga_fact AS (version bigint, recorded_at timestamptz, ordinal integer, fact jsonb);
COMMENT ON TYPE mire.saga_fact IS 'One fact of an instance''s history: of the event with this version the one with this number';
