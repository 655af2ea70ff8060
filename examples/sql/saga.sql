-- A saga driven from plain SQL: reserve a room, then take the money, which somebody outside does. Whoever can call functions
-- can drive sagas: what is decided between a claim and a commit is the caller's, the database stores it.
-- Run it with psql in a database that has the extension:  psql -f saga.sql
\set ON_ERROR_STOP on
\pset format unaligned
\pset footer off
\set QUIET on

-- Starting is idempotent: a trigger that comes twice starts one instance.
SELECT item, outcome, version FROM mire.saga_start(ARRAY['{
  "saga": "booking", "instance": "b1", "topology_version": 1,
  "facts": [{"fact": "started", "state": {"guest": "Ada", "cents": 12000}}]}']::jsonb[]);
SELECT item, outcome, version FROM mire.saga_start(ARRAY['{
  "saga": "booking", "instance": "b1", "topology_version": 1,
  "facts": [{"fact": "started", "state": {"guest": "Ada", "cents": 12000}}]}']::jsonb[]);

-- A worker takes what is due, with its history. The fence is its token.
SELECT saga, instance, version, fence, events #> '{0,facts}' AS facts
  FROM mire.saga_claim('worker-1', '{booking}', '{1}', 10, '30 s')
 WHERE saga IS NOT NULL \gset

-- Before it reserves the room it writes down that it is going to; then it does, under a key that stays the same should it
-- have to do it again.
SELECT outcome, version FROM mire.saga_commit(ARRAY[jsonb_build_object(
  'saga', 'booking', 'instance', 'b1', 'version', :version, 'fence', :fence, 'keep', true, 'status', 'running',
  'steps', '["reserve"]'::jsonb,
  'facts', '[{"fact": "activated", "step": "reserve", "activation": 1, "requests": [{"type": "reserve_room"}]}]'::jsonb)],
  'worker-1', '30 s');

-- It got the room. Completing one step and asking for the next is one commit: the charge goes to the outbox, nothing is due
-- until an answer comes or an hour has passed, and the instance is given back.
SELECT outcome, version FROM mire.saga_commit(ARRAY[jsonb_build_object(
  'saga', 'booking', 'instance', 'b1', 'version', :version + 1, 'fence', :fence, 'status', 'running',
  'steps', '["pay"]'::jsonb, 'due_in_ms', 3600000,
  'facts', '[{"fact": "answered", "step": "reserve", "activation": 1, "request": 0, "ok": true, "data": {"room": 7}},
             {"fact": "completed", "step": "reserve", "output": {"room": 7}},
             {"fact": "activated", "step": "pay", "activation": 1, "timeout_ms": 3600000,
              "requests": [{"type": "charge", "outbox": true}]}]'::jsonb,
  'outbox', '[{"key": "booking/b1/pay/1/0", "step": "pay", "activation": 1, "request": 0, "kind": "charge",
               "data": {"cents": 12000}}]'::jsonb)],
  'worker-1', '30 s');

-- A commit under a version or a fence that is not the current one changes nothing.
SELECT outcome, version, reason FROM mire.saga_commit(ARRAY[jsonb_build_object(
  'saga', 'booking', 'instance', 'b1', 'version', 3, 'fence', :fence, 'status', 'completed', 'facts', '[]'::jsonb)],
  'worker-1', '30 s');

-- Whoever sends messages takes them, in order, and may try again …
SELECT message_no, fence AS message_fence, key, kind, data, attempts
  FROM mire.outbox_claim('sender-1', NULL, 10, '30 s')
 WHERE message_no IS NOT NULL \gset
SELECT outcome FROM mire.outbox_ack(ARRAY[jsonb_build_object(
  'message_no', :message_no, 'fence', :message_fence, 'outcome', 'retry', 'delay_ms', 0, 'error', '503 from the provider')]);
SELECT message_no, fence AS message_fence, key, kind, data, attempts
  FROM mire.outbox_claim('sender-1', NULL, 10, '30 s')
 WHERE message_no IS NOT NULL \gset

-- … and tells what came of it: the response is the step's answer, in the same transaction.
SELECT outcome, version FROM mire.outbox_ack(ARRAY[jsonb_build_object(
  'message_no', :message_no, 'fence', :message_fence, 'outcome', 'sent',
  'response', '{"type": "charged", "data": {"receipt": "r-1"}}'::jsonb)]);

-- An answer that comes some other way, and twice, is recorded once. This one the engine will ignore.
SELECT item, outcome, version FROM mire.saga_deliver(ARRAY[
  '{"saga": "booking", "instance": "b1", "step": "pay", "type": "charged", "data": {"receipt": "r-1"}, "id": "hook-9"}',
  '{"saga": "booking", "instance": "b1", "step": "pay", "type": "charged", "data": {"receipt": "r-1"}, "id": "hook-9"}']::jsonb[]);
SELECT outcome, version FROM mire.saga_signal(ARRAY[
  '{"saga": "booking", "instance": "b1", "signal": "guest_arrived", "id": "desk-4"}']::jsonb[]);

-- The answer made it due at once.
SELECT saga, instance, version, fence
  FROM mire.saga_claim('worker-2', '{booking}', '{1}', 10, '30 s')
 WHERE saga IS NOT NULL \gset
SELECT outcome, version FROM mire.saga_commit(ARRAY[jsonb_build_object(
  'saga', 'booking', 'instance', 'b1', 'version', :version, 'fence', :fence, 'status', 'completed',
  'facts', '[{"fact": "completed", "step": "pay", "output": {"receipt": "r-1"}},
             {"fact": "ended", "outcome": "completed"}]'::jsonb)],
  'worker-2', '30 s');

-- What operators see.
SELECT status, steps, version, pruned FROM mire.saga_list('booking', '{completed}');
SELECT * FROM mire.saga_describe('booking', 'b1');
SELECT count(*) AS leaks FROM mire.saga_leaks;
