//! The SQLSTATEs this client branches on: the store's own class `MI`, and the few of PostgreSQL's that decide
//! whether a call may be repeated.

/// The expected version does not match the stream.
pub const VERSION_CONFLICT: &str = "MI001";
/// The stream must exist, and does not.
pub const STREAM_NOT_FOUND: &str = "MI002";
/// The fence is not the current one, or the lease has expired.
pub const LEASE_LOST: &str = "MI003";
/// An event or a name was refused.
pub const INVALID_INPUT: &str = "MI004";
/// The stream has been deleted.
pub const STREAM_DELETED: &str = "MI005";
/// Somebody tried to change history.
pub const APPEND_ONLY: &str = "MI006";
/// The feed cannot be read here: a transaction-wide snapshot, a standby, a logical subscriber.
pub const FEED_UNSAFE_HERE: &str = "MI007";
/// There is no such instance of that saga.
pub const SAGA_NOT_FOUND: &str = "MI008";
/// The instance is in a status in which what was asked makes no sense.
pub const SAGA_STATE: &str = "MI009";

/// `serialization_failure`.
pub const SERIALIZATION_FAILURE: &str = "40001";
/// `statement_completion_unknown`.
pub(crate) const COMPLETION_UNKNOWN: &str = "40003";
/// `deadlock_detected`.
pub const DEADLOCK_DETECTED: &str = "40P01";
/// `lock_not_available`.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// `too_many_connections`.
pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
/// `read_only_sql_transaction`: most often a primary that has become a standby.
pub(crate) const READ_ONLY: &str = "25006";
/// `undefined_object`: no such subscription, or no such parked stream.
pub const UNDEFINED_OBJECT: &str = "42704";
/// `duplicate_object`: a subscription of that name exists with another definition.
pub const DUPLICATE_OBJECT: &str = "42710";
/// `invalid_parameter_value`.
pub(crate) const INVALID_PARAMETER_VALUE: &str = "22023";
/// `undefined_function`.
pub(crate) const UNDEFINED_FUNCTION: &str = "42883";
/// `invalid_schema_name`.
pub(crate) const INVALID_SCHEMA: &str = "3F000";
/// `insufficient_privilege`.
pub(crate) const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// `numeric_value_out_of_range`, `invalid_parameter_value` and friends: data exceptions.
pub(crate) const DATA_EXCEPTION_CLASS: &str = "22";
/// `program_limit_exceeded` and friends.
pub(crate) const LIMIT_EXCEEDED_CLASS: &str = "54";
/// Connection exceptions; PgBouncer speaks of its own troubles in this class.
pub(crate) const CONNECTION_EXCEPTION_CLASS: &str = "08";
/// `admin_shutdown`, `crash_shutdown`, `cannot_connect_now`, `database_dropped`.
pub(crate) const SHUTDOWN: [&str; 4] = ["57P01", "57P02", "57P03", "57P04"];

/// The extension is missing, too old, or not granted: no other input would fare better.
pub(crate) fn is_setup(sqlstate: &str) -> bool {
    matches!(
        sqlstate,
        UNDEFINED_FUNCTION | INVALID_SCHEMA | INSUFFICIENT_PRIVILEGE
    )
}

/// A server that was reached and cannot serve just now: it starts or stops, is full, or takes no writes.
pub(crate) fn may_pass(sqlstate: &str) -> bool {
    sqlstate == READ_ONLY
        || [CONNECTION_EXCEPTION_CLASS, "53", "57P"]
            .iter()
            .any(|class| sqlstate.starts_with(class))
}
