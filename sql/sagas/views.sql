CREATE VIEW mire.saga_status AS
SELECT s.saga, s.topology_version, s.status,
       count(*) AS instances,
       count(*) FILTER (WHERE s.due_at <= clock_timestamp() AND s.lease_expires_at <= clock_timestamp()) AS due,
       count(*) FILTER (WHERE s.lease_expires_at > clock_timestamp()) AS leased,
       min(s.due_at) AS oldest_due_at,
       min(s.started_at) AS oldest_started_at
  FROM mire.sagas AS s
 WHERE s.status IN ('running', 'compensating', 'parked', 'intervention')
 GROUP BY s.saga, s.topology_version, s.status;
COMMENT ON VIEW mire.saga_status IS
'Instances that have not ended, counted by saga, topology version and status: due: could be claimed now; leased: somebody has them. A '
'version that no worker knows has instances that are due and stay so';

CREATE VIEW mire.outbox_status AS
SELECT o.message_no, o.saga, o.instance, o.step, o.undo, o.kind, o.key, o.status, o.attempts, o.due_at,
       CASE WHEN o.lease_expires_at > clock_timestamp() THEN o.holder END AS holder,
       o.error, o.created_at
  FROM mire.outbox AS o;
COMMENT ON VIEW mire.outbox_status IS
'Messages: pending (to be sent; holder: who is at it), sent (no answer yet), dead (given up: outbox_retry), in_doubt (withdrawn '
'when it may have been sent already)';

-- What should not be. An ended instance is looked at again when an answer comes late: then its last event is no $saga_ended.
CREATE VIEW mire.saga_leaks AS
SELECT s.saga, s.instance, s.status, l.reason
  FROM mire.sagas AS s
 CROSS JOIN LATERAL (
   SELECT e.type = '$saga_ended' OR e.type = '$saga_started' AS at_rest
     FROM mire.events AS e
    WHERE e.stream_no = s.stream_no
    ORDER BY e.version DESC
    LIMIT 1) AS e
 CROSS JOIN LATERAL (
   VALUES
     (s.steps <> '{}', 'ended, with steps that are active'),
     (s.lease_expires_at > clock_timestamp() AND e.at_rest, 'ended, and somebody holds it'),
     (s.due_at IS NOT NULL AND e.at_rest, 'ended, with a timer'),
     (EXISTS (SELECT FROM mire.outbox AS o
               WHERE o.stream_no = s.stream_no AND o.status = 'pending' AND NOT starts_with(o.kind, '$')), 'ended, with a message to send'),
     (EXISTS (SELECT FROM mire.outbox AS o
               WHERE o.stream_no = s.stream_no AND o.status = 'sent' AND NOT starts_with(o.kind, '$')), 'ended, and waits for an answer')
 ) AS l (leaks, reason)
 WHERE s.ended_at IS NOT NULL AND NOT s.pruned AND l.leaks
 UNION ALL
SELECT s.saga, s.instance, s.status, 'nothing active, nothing due, nobody holds it' AS reason
  FROM mire.sagas AS s
 WHERE s.status IN ('running', 'compensating') AND s.due_at IS NULL AND s.lease_expires_at <= clock_timestamp() AND s.steps = '{}'
 UNION ALL
SELECT s.saga, s.instance, s.status, 'somebody held it, and it is never due' AS reason
  FROM mire.sagas AS s
 WHERE s.status IN ('running', 'compensating') AND s.due_at IS NULL AND s.holder IS NOT NULL
 UNION ALL
SELECT s.saga, s.instance, s.status, 'parked, with a timer or a holder' AS reason
  FROM mire.sagas AS s
 WHERE s.status = 'parked' AND (s.due_at IS NOT NULL OR s.lease_expires_at > clock_timestamp())
 UNION ALL
SELECT o.saga, o.instance, NULL AS status, 'a message of an instance that is not there' AS reason
  FROM mire.outbox AS o
 WHERE NOT EXISTS (SELECT FROM mire.sagas AS s WHERE s.saga = o.saga AND s.instance = o.instance AND NOT s.pruned);
COMMENT ON VIEW mire.saga_leaks IS 'What should not be, with the reason: empty in health. It looks at everything: not for polling';
