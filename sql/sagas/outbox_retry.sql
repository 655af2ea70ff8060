-- outbox_retry: has a dead message sent again.
-- Locks: the message's row, until commit.
-- Raises: MI008 for a message that is not there; MI009 for one that is not dead.
CREATE FUNCTION mire.outbox_retry(message_no bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, mire, pg_temp
AS $$
DECLARE
  message mire.outbox;
BEGIN
  PERFORM mire_internal.make_durable();
  SELECT o.* INTO message
    FROM mire.outbox AS o
   WHERE o.message_no = outbox_retry.message_no
     FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM mire_internal.raise_saga_not_found(NULL, NULL, message_no);
  ELSIF message.status <> 'dead' THEN
    PERFORM mire_internal.raise_saga_state(message.saga, message.instance, message.status,
      'sent again: only a dead message can');
  END IF;
  UPDATE mire.outbox AS o
     SET status = 'pending', attempts = 0, due_at = clock_timestamp(), error = NULL, awaited = false
   WHERE o.message_no = outbox_retry.message_no;
END
$$;
COMMENT ON FUNCTION mire.outbox_retry(bigint) IS
'Has a dead message sent again, with the same key. Its step has been told of a failure already: an answer that comes now is a '
'late one, and without one it goes when it has been sent. For admins. Raises MI008, MI009';
