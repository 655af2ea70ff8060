-- Names, categories and types are COLLATE "C": a change of the system's collations must not corrupt an index.

-- CACHE 1 is asserted at every append: a cached position would be handed out outside its in-flight lock.
CREATE SEQUENCE mire.positions AS bigint CACHE 1;
COMMENT ON SEQUENCE mire.positions IS 'Positions in the feed: unique, increasing, not dense';

CREATE SEQUENCE mire.stream_numbers AS bigint CACHE 1;
COMMENT ON SEQUENCE mire.stream_numbers IS 'stream_no of stream_heads';

CREATE SEQUENCE mire.fences AS bigint CACHE 1;
COMMENT ON SEQUENCE mire.fences IS 'Fence tokens of leases: they only ever grow';

CREATE TABLE mire.stream_heads (
  stream_no bigint NOT NULL PRIMARY KEY DEFAULT nextval('mire.stream_numbers'),
  version bigint NOT NULL DEFAULT 0 CHECK (version >= 0),
  truncated_before bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  deleted boolean NOT NULL DEFAULT false,
  stream text COLLATE "C" NOT NULL UNIQUE
) WITH (fillfactor = 80);
COMMENT ON TABLE mire.stream_heads IS 'One row a stream: its current version. Locked by append, so it is the compare-and-set';
COMMENT ON COLUMN mire.stream_heads.truncated_before IS 'The lowest version still there; 1 unless the stream was truncated';
COMMENT ON COLUMN mire.stream_heads.deleted IS 'Tombstoned: nothing can be appended any more';

-- No foreign key to stream_heads: append is the only writer and holds the stream's row.
CREATE TABLE mire.events (
  position bigint NOT NULL PRIMARY KEY,
  stream_no bigint NOT NULL,
  version bigint NOT NULL,
  event_id uuid NOT NULL,
  recorded_at timestamptz NOT NULL,
  category text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  data jsonb NOT NULL,
  metadata jsonb,
  UNIQUE (stream_no, version)
);
CREATE UNIQUE INDEX events_category_position_key ON mire.events (category, position);
COMMENT ON TABLE mire.events IS 'The log. Read it through functions: a plain SELECT by position skips events (see read_all)';

CREATE TABLE mire.store (
  store_id uuid NOT NULL,
  epoch bigint NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX store_has_one_row ON mire.store ((true));
COMMENT ON TABLE mire.store IS 'One row: who this store is, and which history it is in';
COMMENT ON COLUMN mire.store.epoch IS 'Changes when history has forked (new_epoch): microseconds since 1970, so that two forks never share one';

CREATE TABLE mire.snapshots (
  stream_no bigint NOT NULL,
  schema_version integer NOT NULL,
  version bigint NOT NULL,
  taken_at timestamptz NOT NULL,
  state jsonb NOT NULL,
  PRIMARY KEY (stream_no, schema_version)
);
COMMENT ON TABLE mire.snapshots IS 'The newest snapshot of a stream for each schema version; disposable';

-- resource is the only key column: a heartbeat updates none, so that assert_lease (KEY SHARE) never blocks it.
CREATE TABLE mire.leases (
  resource text COLLATE "C" NOT NULL PRIMARY KEY,
  holder text COLLATE "C",
  fence bigint NOT NULL,
  ttl interval NOT NULL,
  acquired_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE mire.leases IS 'One row a resource that was ever leased; rows stay, so that fences keep growing';

CREATE TABLE mire.grants (
  role text NOT NULL PRIMARY KEY,
  level text NOT NULL CHECK (level IN ('reader', 'writer', 'admin')),
  granted_at timestamptz NOT NULL
);
COMMENT ON TABLE mire.grants IS 'What grant_access was told, so that an upgrade''s new functions reach the same roles';
