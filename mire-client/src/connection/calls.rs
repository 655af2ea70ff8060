//! Every statement this client sends, one line each: function calls and nothing else.

use tokio_postgres::types::Type;

/// A statement and the types of its parameters, which spares asking the server for them.
pub(crate) struct Call {
    pub(crate) sql: &'static str,
    pub(crate) types: &'static [Type],
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($($ty:ident),*) = $sql:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: Call = Call { sql: $sql, types: &[$(Type::$ty),*] };)*
    };
}

calls! {
    APPEND_EVENTS(TEXT, TEXT_ARRAY, JSONB_ARRAY, JSONB_ARRAY, UUID_ARRAY, INT8) =
        "SELECT version, position, duplicate FROM mire.append_events($1, $2, $3, $4, $5, $6)";
    APPEND_BATCH(TEXT_ARRAY, INT8_ARRAY, INT4_ARRAY, TEXT_ARRAY, JSONB_ARRAY, JSONB_ARRAY, UUID_ARRAY) =
        "SELECT item, outcome, version, position, actual_version, reason FROM mire.append_batch($1, $2, $3, $4, $5, $6, $7)";
    LOAD_STREAM(TEXT, INT4) =
        "SELECT mire.load_stream_packed($1, $2)";
    READ_STREAM(TEXT, INT8, INT4, BOOL) =
        "SELECT position, version, event_id, type, recorded_at, data, metadata FROM mire.read_stream($1, $2, $3, $4)";
    STREAM_VERSION(TEXT) =
        "SELECT version FROM mire.stream_version($1) AS s (version)";
    READ_ALL(INT8, INT4, TEXT_ARRAY, TEXT_ARRAY, INT4) =
        "SELECT page FROM mire.read_all_packed($1, $2, $3, $4, $5) AS p (page)";
    SAFE_POSITION() =
        "SELECT position FROM mire.safe_position() AS s (position)";
    WAIT_FOR_EVENTS(INT8, FLOAT8) =
        "CALL mire.wait_for_events($1, make_interval(secs => $2))";
    SAVE_SNAPSHOT(TEXT, INT8, INT4, JSONB) =
        "SELECT saved FROM mire.save_snapshot($1, $2, $3, $4) AS s (saved)";
    DELETE_SNAPSHOTS(TEXT, INT4) =
        "SELECT deleted FROM mire.delete_snapshots($1, $2) AS s (deleted)";
    ACQUIRE_LEASE(TEXT, TEXT, FLOAT8) =
        "SELECT acquired, fence, holder FROM mire.acquire_lease($1, $2, make_interval(secs => $3))";
    RENEW_LEASE(TEXT, INT8, FLOAT8) =
        "SELECT renewed FROM mire.renew_lease($1, $2, make_interval(secs => $3)) AS r (renewed)";
    RELEASE_LEASE(TEXT, INT8) =
        "SELECT released FROM mire.release_lease($1, $2) AS r (released)";
    ASSERT_LEASE(TEXT, INT8) =
        "SELECT FROM mire.assert_lease($1, $2)";
    CREATE_SUBSCRIPTION(TEXT, TEXT_ARRAY, TEXT_ARRAY, INT8, INT4) =
        "SELECT created FROM mire.create_subscription($1, $2, $3, $4, $5) AS c (created)";
    ATTEND_SUBSCRIPTIONS(TEXT_ARRAY, TEXT, FLOAT8, TEXT_ARRAY, INT8_ARRAY) =
        "SELECT name, partition, resource, holder, fence, extract(epoch FROM expires_in)::float8, workers, rank, paused, parked_ready, epoch, store_epoch FROM mire.attend_subscriptions($1, $2, make_interval(secs => $3), $4, $5)";
    LEAVE_SUBSCRIPTIONS(TEXT_ARRAY, TEXT, TEXT_ARRAY, INT8_ARRAY) =
        "SELECT FROM mire.leave_subscriptions($1, $2, $3, $4)";
    ACQUIRE_SUBSCRIPTION(TEXT, INT4, TEXT, FLOAT8) =
        "SELECT acquired, fence, checkpoint, epoch FROM mire.acquire_subscription($1, $2, $3, make_interval(secs => $4))";
    RELEASE_SUBSCRIPTION(TEXT, INT4, INT8) =
        "SELECT released FROM mire.release_subscription($1, $2, $3) AS r (released)";
    ASSERT_SUBSCRIPTION(TEXT, INT4, INT8) =
        "SELECT FROM mire.assert_subscription($1, $2, $3)";
    /// How far a fence was handed events need not outlive a crash of the server (a worker then takes its partition anew), so
    /// no fetch waits for the disk; a heartbeat in it still does.
    FETCH_EVENTS(TEXT, INT4, INT8, INT4, INT8, INT4) =
        "SELECT page FROM mire.fetch_events_packed($1, $2, $3, $4, $5, $6) AS p (page) WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL";
    EXECUTE_ALL(TEXT_ARRAY, INT4_ARRAY, OID_ARRAY, BYTEA) =
        "SELECT FROM mire.execute_all($1, $2, $3, $4)";
    CHECKPOINT(TEXT, INT4, INT8, INT8) =
        "SELECT FROM mire.checkpoint($1, $2, $3, $4)";
    REPORT_FAILURE(TEXT, INT4, INT8, INT8, TEXT, INT4, TEXT) =
        "SELECT FROM mire.report_failure($1, $2, $3, $4, $5, $6, $7)";
    FETCH_PARKED(TEXT, INT4, INT8, INT4, INT4) =
        "SELECT stream, position, version, event_id, type, recorded_at, data, metadata FROM mire.fetch_parked($1, $2, $3, $4, $5)";
    CHECKPOINT_PARKED(TEXT, INT4, INT8, TEXT, INT8) =
        "SELECT FROM mire.checkpoint_parked($1, $2, $3, $4, $5)";
    SUBSCRIPTION_CHECKPOINT(TEXT, TEXT) =
        "SELECT checkpoint FROM mire.subscription_checkpoint($1, $2) AS c (checkpoint)";
    WAIT_FOR_CHECKPOINT(TEXT, INT8, FLOAT8, TEXT) =
        "CALL mire.wait_for_checkpoint($1, $2, make_interval(secs => $3), $4)";
    SUBSCRIPTION_STATUS(TEXT) =
        "SELECT partition, checkpoint, events_behind, lag_is_a_minimum, extract(epoch FROM time_behind)::float8, holder, paused, parked_streams, last_error FROM mire.subscription_status WHERE name = $1";
    DROP_SUBSCRIPTION(TEXT) =
        "SELECT dropped FROM mire.drop_subscription($1) AS d (dropped)";
    RESET_SUBSCRIPTION(TEXT, INT8) =
        "SELECT FROM mire.reset_subscription($1, $2)";
    PAUSE_SUBSCRIPTION(TEXT) =
        "SELECT FROM mire.pause_subscription($1)";
    RESUME_SUBSCRIPTION(TEXT) =
        "SELECT FROM mire.resume_subscription($1)";
    RETRY_PARKED(TEXT, TEXT) =
        "SELECT FROM mire.retry_parked($1, $2)";
    SKIP_PARKED(TEXT, TEXT) =
        "SELECT FROM mire.skip_parked($1, $2)";
    CONFIRM_EPOCH(TEXT) =
        "SELECT epoch FROM mire.confirm_epoch($1) AS c (epoch)";
    STORE_INFO() =
        "SELECT store_id, epoch, schema_version, extension_version FROM mire.store_info()";
    DELETE_STREAM(TEXT, INT8) =
        "SELECT version, position, duplicate FROM mire.delete_stream($1, $2)";
    TRUNCATE_STREAM(TEXT, INT8) =
        "SELECT version, position, duplicate FROM mire.truncate_stream($1, $2)";
    /// Bounds how long this transaction waits for a lock.
    LOCK_TIMEOUT(TEXT) =
        "SELECT FROM pg_catalog.set_config('lock_timeout', $1, true)";
    /// Which server process really answers: tells whether a pooler stands in between.
    BACKEND_PID() =
        "SELECT pid FROM pg_catalog.pg_backend_pid() AS b (pid)";
}

/// Installs the extension; needs a role that may.
pub(crate) const CREATE_EXTENSION: &str = "CREATE EXTENSION IF NOT EXISTS pg_mire";
/// Brings an older installation up to the version of the files on the server.
pub(crate) const UPDATE_EXTENSION: &str = "ALTER EXTENSION pg_mire UPDATE";
