//! Every statement this crate sends, one line each: function calls and views, and nothing else.

use mire_client::saga_support::{Call, Type};

macro_rules! calls {
    ($($name:ident($($ty:ident),*) = $sql:literal;)*) => {
        $(pub(crate) static $name: Call = Call::new($sql, &[$(Type::$ty),*]);)*
    };
}

calls! {
    START(JSONB_ARRAY, TEXT, FLOAT8) =
        "SELECT item, outcome, version, fence, reason FROM mire.saga_start($1, $2, make_interval(secs => $3))";
    CLAIM(TEXT, TEXT_ARRAY, INT4_ARRAY, INT4, FLOAT8) =
        "SELECT c.saga, c.instance, c.topology_version, c.status, c.fence, c.version, c.attempts, (extract(epoch FROM c.now) * 1000000)::int8, c.events, (extract(epoch FROM c.next_due_at) * 1000000)::int8 FROM mire.saga_claim($1, $2, $3, $4, make_interval(secs => $5)) AS c";
    LOAD(TEXT, TEXT) =
        "SELECT c.saga, c.instance, c.topology_version, c.status, c.fence, c.version, c.attempts, (extract(epoch FROM c.now) * 1000000)::int8, c.events, NULL::int8 FROM mire.saga_load($1, $2) AS c";
    COMMIT(JSONB_ARRAY, TEXT, FLOAT8) =
        "SELECT item, outcome, version, fence, reason FROM mire.saga_commit($1, $2, make_interval(secs => $3))";
    RENEW(TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY, FLOAT8) =
        "SELECT item, renewed FROM mire.saga_renew($1, $2, $3, make_interval(secs => $4))";
    DELIVER(JSONB_ARRAY) =
        "SELECT item, outcome, version, fence, reason FROM mire.saga_deliver($1)";
    SIGNAL(JSONB_ARRAY) =
        "SELECT item, outcome, version, fence, reason FROM mire.saga_signal($1)";
    CANCEL(TEXT, TEXT, TEXT) =
        "SELECT FROM mire.saga_cancel($1, $2, $3)";
    RETRY(TEXT, TEXT, TEXT) =
        "SELECT FROM mire.saga_retry($1, $2, $3)";
    SKIP(TEXT, TEXT, TEXT) =
        "SELECT FROM mire.saga_skip($1, $2, $3)";
    COMPENSATE(TEXT, TEXT, TEXT) =
        "SELECT FROM mire.saga_compensate($1, $2, $3)";
    PARK(TEXT, TEXT, TEXT) =
        "SELECT FROM mire.saga_park($1, $2, $3)";
    RESUME(TEXT, TEXT) =
        "SELECT FROM mire.saga_resume($1, $2)";
    LIST(TEXT, TEXT_ARRAY, TEXT, FLOAT8, TEXT, INT4) =
        "SELECT l.saga, l.instance, l.topology_version, l.status, l.steps, l.error, l.attempts, (extract(epoch FROM l.started_at) * 1000000)::int8, (extract(epoch FROM l.changed_at) * 1000000)::int8, (extract(epoch FROM l.ended_at) * 1000000)::int8 FROM mire.saga_list($1, $2, $3, make_interval(secs => $4), $5, $6) AS l";
    HISTORY(TEXT, TEXT) =
        "SELECT h.version, (extract(epoch FROM h.recorded_at) * 1000000)::int8, h.fact FROM mire.saga_history($1, $2) AS h ORDER BY h.version, h.ordinal";
    DESCRIBE(TEXT, TEXT) =
        "SELECT line FROM mire.saga_describe($1, $2) AS d (line)";
    STRANDED(TEXT_ARRAY) =
        "SELECT saga, topology_version, instances FROM (SELECT saga, topology_version, sum(instances)::int8 AS instances FROM mire.saga_status WHERE saga = ANY ($1) GROUP BY saga, topology_version) AS s";
    OUTBOX_CLAIM(TEXT, TEXT_ARRAY, INT4, FLOAT8) =
        "SELECT m.message_no, m.saga, m.instance, m.step, m.undo, m.activation, m.request, m.key, m.kind, m.data, m.attempts, m.fence, extract(epoch FROM m.next_due_at - clock_timestamp())::float8 FROM mire.outbox_claim($1, $2, $3, make_interval(secs => $4)) AS m";
    OUTBOX_ACK(JSONB_ARRAY) =
        "SELECT item, outcome, version, fence, reason FROM mire.outbox_ack($1)";
    OUTBOX_RENEW(INT8_ARRAY, INT8_ARRAY, FLOAT8) =
        "SELECT item, renewed FROM mire.outbox_renew($1, $2, make_interval(secs => $3))";
}
