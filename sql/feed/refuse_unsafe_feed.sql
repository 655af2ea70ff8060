-- refuse_unsafe_feed: raises MI007 where a feed read could skip events: a transaction-wide snapshot is older than the
-- safe position; a standby and a logical subscriber do not have the writers' in-flight locks.
CREATE FUNCTION mire_internal.refuse_unsafe_feed()
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE AS $$
BEGIN
  IF pg_is_in_recovery() THEN
    PERFORM mire_internal.raise_feed_unsafe('this is a standby',
      'Read the feed on the primary; read_stream and load_stream work here.');
  ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    PERFORM mire_internal.raise_feed_unsafe('the transaction is ' || upper(current_setting('transaction_isolation')),
      'Read the feed in a READ COMMITTED transaction.');
  ELSIF EXISTS (SELECT FROM pg_subscription_rel AS r WHERE r.srrelid = 'mire.events'::regclass) THEN
    PERFORM mire_internal.raise_feed_unsafe('this is a logical subscriber of mire.events',
      'Read the feed on the publisher.');
  END IF;
END
$$;
