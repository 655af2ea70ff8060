CREATE VIEW mire.streams AS
SELECT s.stream, split_part(s.stream, '-', 1) AS category, s.version, s.truncated_before, s.deleted, s.created_at
  FROM mire.stream_heads AS s
 WHERE s.version > 0;
COMMENT ON VIEW mire.streams IS 'One row a stream: its category (the name up to the first "-") and current version';
