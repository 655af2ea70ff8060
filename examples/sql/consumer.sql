-- A consumer in plain SQL: a read model of account balances that is never wrong.
-- psql -f examples/sql/consumer.sql handles a page; call it again, from anywhere, and it goes on where it was.
\set ON_ERROR_STOP on
\set holder `echo "$HOSTNAME $$"`

CREATE TABLE IF NOT EXISTS balances (account text PRIMARY KEY, cents bigint NOT NULL);
SELECT mire.create_subscription('balances', categories => '{account}');

-- Only one consumer at a time. The fence is what it works under.
SELECT acquired, fence FROM mire.acquire_subscription('balances', 0, :'holder', '30 s') \gset
\if :acquired
\else
  \echo another consumer is at work
  \quit
\endif

-- Fetch, update the read model, checkpoint: one statement and so one transaction. Whoever was replaced meanwhile is refused
-- (MI003) with everything it wrote. The last row of a page says where to go on, also when nothing matched. This is one page of up
-- to 1000 events; a consumer that stays repeats it, and sleeps with CALL mire.wait_for_events(:next, '10 s') when handled is 0.
WITH page AS (
  SELECT * FROM mire.fetch_events('balances', 0, :fence)
), changed AS (
  INSERT INTO balances AS b
  SELECT stream, sum(CASE type WHEN 'deposited' THEN 1 WHEN 'withdrawn' THEN -1 END * (data ->> 'cents')::bigint)
    FROM page
   WHERE type IN ('deposited', 'withdrawn')
   GROUP BY stream
  ON CONFLICT (account) DO UPDATE SET cents = b.cents + excluded.cents
)
SELECT count(position) AS handled, max(next_position) AS next, mire.checkpoint('balances', 0, :fence, max(next_position))
  FROM page \gset
\echo handled :handled events, up to position :next

SELECT mire.release_subscription('balances', 0, :fence);
