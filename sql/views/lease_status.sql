CREATE VIEW mire.lease_status AS
SELECT l.resource, l.holder, l.fence, l.acquired_at, l.expires_at, l.ttl,
       l.expires_at > clock_timestamp() AS held
  FROM mire.leases AS l;
COMMENT ON VIEW mire.lease_status IS 'One row a resource that was ever leased: holder, newest fence, and whether it is held now';
