-- surface: everything that users may be granted, and from which level on. A new public object belongs here; the
-- test of the public surface fails until it does.
CREATE FUNCTION mire_internal.surface()
RETURNS TABLE (level text, kind text, name text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  VALUES
    ('reader', 'ROUTINE', 'read_stream'),
    ('reader', 'ROUTINE', 'stream_version'),
    ('reader', 'ROUTINE', 'load_stream'),
    ('reader', 'ROUTINE', 'read_all'),
    ('reader', 'ROUTINE', 'safe_position'),
    ('reader', 'ROUTINE', 'wait_for_events'),
    ('reader', 'ROUTINE', 'store_info'),
    ('reader', 'ROUTINE', 'open_appends'),
    ('reader', 'ROUTINE', 'visible_query'),
    ('reader', 'ROUTINE', 'last_position'),
    ('reader', 'TABLE', 'streams'),
    ('reader', 'TABLE', 'lease_status'),
    ('reader', 'TABLE', 'feed_blockers'),
    ('reader', 'TABLE', 'stats'),
    ('reader', 'TYPE', 'append_result'),
    ('reader', 'TYPE', 'batch_result'),
    ('reader', 'TYPE', 'stream_event'),
    ('reader', 'TYPE', 'feed_event'),
    ('reader', 'TYPE', 'lease_result'),
    ('reader', 'TYPE', 'store_result'),
    ('writer', 'ROUTINE', 'append'),
    ('writer', 'ROUTINE', 'append_events'),
    ('writer', 'ROUTINE', 'append_batch'),
    ('writer', 'ROUTINE', 'save_snapshot'),
    ('writer', 'ROUTINE', 'delete_snapshots'),
    ('writer', 'ROUTINE', 'acquire_lease'),
    ('writer', 'ROUTINE', 'renew_lease'),
    ('writer', 'ROUTINE', 'release_lease'),
    ('writer', 'ROUTINE', 'assert_lease'),
    ('admin', 'ROUTINE', 'new_epoch'),
    ('admin', 'ROUTINE', 'open_append_query'),
    ('admin', 'ROUTINE', 'delete_stream'),
    ('admin', 'ROUTINE', 'truncate_stream'),
    ('admin', 'ROUTINE', 'grant_access'),
    ('admin', 'ROUTINE', 'revoke_access')
$$;
