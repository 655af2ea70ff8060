//! Item 11: on a million events the hot reads go through indexes, sort nothing and scan nothing sequentially, with the
//! plans for particular values as well as with the generic ones that a session settles on after some calls.

use std::time::Instant;

use mire_cluster::Cluster;
use mire_tests::plans::{Explained, Statement};
use mire_tests::session::{connect, value};
use postgres::Client;
use serde_json::Value;

/// A million events in 20,000 interleaved streams of 20 categories and a big one of 10,000, as a superuser writes them.
/// The indexes of events are made anew from their own definitions afterwards, which is several times faster.
const MILLION: &str = "
  SET synchronous_commit = off;
  SET maintenance_work_mem = '256MB';
  INSERT INTO mire.stream_heads (stream_no, stream, version)
  SELECT n, CASE n WHEN 1 THEN 'big-1' ELSE format('c%s-%s', n % 20, n) END, CASE WHEN n = 1 THEN 10000 WHEN n <= 10001 THEN 50 ELSE 49 END
    FROM generate_series(1, 20001) AS n;

  CREATE TEMP TABLE defined AS
  SELECT format('ALTER TABLE mire.events DROP CONSTRAINT %I', conname) AS drop,
         format('ALTER TABLE mire.events ADD CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)) AS create
    FROM pg_constraint WHERE conrelid = 'mire.events'::regclass AND contype IN ('p', 'u')
   UNION ALL
  SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
    FROM pg_index WHERE indrelid = 'mire.events'::regclass
                    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid);
  DO $$ DECLARE d record; BEGIN FOR d IN SELECT * FROM defined LOOP EXECUTE d.drop; END LOOP; END $$;
  INSERT INTO mire.events (position, stream_no, version, event_id, recorded_at, category, type, data)
  SELECT p, s.no, s.version, md5(p::text)::uuid, now(), CASE s.no WHEN 1 THEN 'big' ELSE 'c' || s.no % 20 END,
         CASE WHEN p % 50000 = 7 THEN 'rare' ELSE 't' || p % 9 END, '{\"n\": 1}'
    FROM generate_series(1, 1000000) AS p
   CROSS JOIN LATERAL (SELECT CASE WHEN p % 100 = 0 THEN 1 ELSE 2 + (p - p / 100 - 1) % 20000 END AS no,
                              CASE WHEN p % 100 = 0 THEN p / 100 ELSE 1 + (p - p / 100 - 1) / 20000 END AS version) AS s;
  DO $$ DECLARE d record; BEGIN FOR d IN SELECT * FROM defined LOOP EXECUTE d.create; END LOOP; END $$;

  INSERT INTO mire.snapshots (stream_no, schema_version, version, taken_at, state)
  SELECT n, 1, 40, now(), '{}' FROM generate_series(1, 20001) AS n;
  SELECT setval('mire.positions', 1000000), setval('mire.stream_numbers', 20001);
";

/// The call, which index its scan of events must use, and the most pages that one of its statements may look at.
const HOT: [(&str, &str, u64); 20] = [
    (
        "SELECT count(*) FROM mire.read_all(0, 1000)",
        "events_pkey",
        5_000,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100)",
        "events_pkey",
        700,
    ),
    (
        "SELECT count(*) FROM mire.read_all(999990, 1000)",
        "events_pkey",
        400,
    ),
    (
        "SELECT count(*) FROM mire.read_all(1000000, 1000)",
        "events_pkey",
        400,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, NULL, '{t3}')",
        "events_pkey",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, NULL, '{t3,t4,t5}')",
        "events_pkey",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.read_all(10, 100, NULL, '{rare}')",
        "events_pkey",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.read_all(10, 100, NULL, '{never}')",
        "events_pkey",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, '{c3}')",
        "events_category_position_key",
        1_500,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, '{big}')",
        "events_category_position_key",
        1_500,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, '{none}')",
        "events_category_position_key",
        100,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, '{c3,c4,c5,big,none}')",
        "events_category_position_key",
        1_500,
    ),
    (
        "SELECT count(*) FROM mire.read_all(500000, 100, '{c3}', '{t3}')",
        "events_category_position_key",
        12_000,
    ),
    (
        "SELECT count(*) FROM mire.read_all(10, 100, '{c3,c4}', '{never}')",
        "events_category_position_key",
        12_000,
    ),
    (
        "SELECT count(*) FROM mire.read_stream('c17-77', 10, 20)",
        "events_stream_no_version_key",
        150,
    ),
    (
        "SELECT count(*) FROM mire.read_stream('c17-77')",
        "events_stream_no_version_key",
        150,
    ),
    (
        "SELECT count(*) FROM mire.read_stream('c17-77', 0, 20, true)",
        "events_stream_no_version_key",
        150,
    ),
    (
        "SELECT count(*) FROM mire.read_stream('big-1', 5000, 1000)",
        "events_stream_no_version_key",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.read_stream('big-1', 5000, 1000, true)",
        "events_stream_no_version_key",
        2_000,
    ),
    ("SELECT mire.stream_version('c17-77')", "", 20),
];

/// What is read natively has no plan, but looks at no more pages either: `load_stream` of few events, of those behind a snapshot,
/// of many.
const NATIVE: [(&str, u64); 3] = [
    ("SELECT count(*) FROM mire.load_stream('c17-77')", 150),
    ("SELECT count(*) FROM mire.load_stream('c17-77', 1)", 50),
    ("SELECT count(*) FROM mire.load_stream('big-1')", 20_000),
];

/// Subscriptions in the middle of the log, one of each kind of filter, and a stream of 10,000 events parked near its end. What
/// is said about tables of their own (a row a partition) nobody has analyzed, as in a young store.
const SUBSCRIBED: &str = "
  SELECT mire.create_subscription('all', start => 500000),
         mire.create_subscription('parts', start => 900000, partitions => 4),
         mire.create_subscription('cats', '{c3,c4,c5}', '{t3}', 500000, 2),
         mire.create_subscription('never', types => '{never}');
  SELECT mire.acquire_subscription(c.name, c.partition, 'plans', '1 day') FROM mire.checkpoints AS c;
  INSERT INTO mire.parked_events (name, stream_no, position, error, attempts, retry)
  VALUES ('parts', 1, 899000, 'it broke', 1, true), ('parts', 77, 899000, 'it broke', 1, false);
  CREATE FUNCTION fence(of_name text, of_partition integer) RETURNS bigint LANGUAGE sql AS
    'SELECT c.fence FROM mire.checkpoints AS c WHERE c.name = of_name AND c.partition = of_partition';
";

/// What workers and operators ask for: as HOT.
const ASKED: [(&str, &str, u64); 10] = [
    (
        "SELECT count(*) FROM mire.fetch_events('all', 0, fence('all', 0))",
        "events_pkey",
        5_000,
    ),
    (
        "SELECT count(*) FROM mire.fetch_events('parts', 0, fence('parts', 0), 100)",
        "events_pkey",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.fetch_events('cats', 1, fence('cats', 1), 100)",
        "events_category_position_key",
        12_000,
    ),
    (
        "SELECT count(*) FROM mire.fetch_events('never', 0, fence('never', 0))",
        "events_pkey",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.fetch_parked('parts', 1, fence('parts', 1))",
        "events_stream_no_version_key",
        300,
    ),
    (
        "SELECT count(*) FROM mire.fetch_parked('parts', 0, fence('parts', 0))",
        "",
        20,
    ),
    (
        "SELECT count(*) FROM mire.subscription_status",
        "events_pkey",
        12_000,
    ),
    (
        "SELECT count(*) FROM mire.subscription_status WHERE name = 'cats'",
        "events_category_position_key",
        12_000,
    ),
    ("SELECT * FROM mire.subscription_errors", "events_pkey", 100),
    (
        "SELECT mire.subscription_checkpoint('parts', 'c17-77')",
        "",
        20,
    ),
];

/// Appends and batches must find their streams, and the slots of a retry, by index, too.
const WRITES: [&str; 4] = [
    "SELECT mire.append('c17-77', '[{\"type\": \"t\", \"data\": 1}]')",
    "SELECT mire.append('new-' || gen_random_uuid(), '[{\"type\": \"t\", \"data\": 1}]', 0)",
    "SELECT mire.append_events('c17-97', '{t,t}', '{1,1}', NULL, ARRAY[md5('96')::uuid, md5('20298')::uuid], 0)",
    "SELECT mire.append_batch('{c17-77,c17-117,none-1}', '{NULL,NULL,-1}', '{1,1,1}', '{t,t,t}', '{1,1,1}')",
];

/// Pages of shared buffers that a whole statement looks at when the catalogs are in the session's caches.
fn explained_pages(client: &mut Client, call: &str) -> u64 {
    client.batch_execute(call).unwrap();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {call}");
    let plan = &value::<Value>(client, &explain)[0]["Plan"];
    let blocks = |kind: &str| plan[kind].as_u64().unwrap();
    blocks("Shared Hit Blocks") + blocks("Shared Read Blocks")
}

#[test]
fn hot_reads_of_a_million_events_use_indexes_and_sort_nothing() {
    let cluster = [
        "fsync=off",
        "max_wal_size=8GB",
        "shared_buffers=512MB",
        "autovacuum=off",
        "wal_level=minimal",
        "max_wal_senders=0",
    ]
    .iter()
    .filter_map(|setting| setting.split_once('='))
    .fold(Cluster::builder(), |builder, (name, value)| {
        builder.setting(name, value)
    })
    .start()
    .unwrap();
    let url = cluster.url("mire");
    let started = Instant::now();
    let mut client = connect(&url);
    client.batch_execute(MILLION).unwrap();
    client
        .batch_execute("VACUUM ANALYZE mire.events, mire.stream_heads, mire.snapshots")
        .unwrap();
    client.batch_execute(SUBSCRIBED).unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
        1_000_000
    );
    println!(
        "a million events in {:.1} s",
        started.elapsed().as_secs_f32()
    );

    let mut faults: Vec<(&str, String, String)> = Vec::new();
    let mut seen = 0;
    // A session keeps a statement's plan from the sixth call on, if it is as good.
    for (mode, rounds) in [
        ("auto", 11),
        ("force_generic_plan", 2),
        ("force_custom_plan", 2),
    ] {
        let mut session = Explained::connect(&url);
        session
            .client
            .batch_execute(&format!("SET plan_cache_mode = {mode}"))
            .unwrap();
        for (call, index, pages) in HOT {
            for _ in 0..rounds {
                let statements = session.statements(call);
                let inner: Vec<_> = statements
                    .iter()
                    .filter(|statement| statement.query != call)
                    .collect();
                seen += inner.len();
                for statement in &inner {
                    let mut found = statement.faults();
                    if statement.pages() > pages {
                        found.push(format!("more than {pages} pages: {}", statement.pages()));
                    }
                    faults.extend(
                        found
                            .into_iter()
                            .map(|fault| (call, fault, statement.explain())),
                    );
                }
                if !inner
                    .iter()
                    .any(|statement| statement.scans().iter().any(|scan| scan.ends_with(index)))
                {
                    faults.push((call, format!("{index} is not used"), String::new()));
                }
            }
        }
        for (call, index, pages) in ASKED {
            let statements: Vec<_> = (0..rounds).flat_map(|_| session.statements(call)).collect();
            seen += statements.len();
            for statement in &statements {
                // A few rows of a subscription's own may be sorted and scanned; events and streams may not.
                let of_events = statement
                    .scans()
                    .iter()
                    .any(|scan| scan.contains(" of events"));
                let mut found = statement.faults();
                found.retain(|fault| match fault.split_once(" of ") {
                    Some((_, table)) => {
                        table.starts_with("events") || table.starts_with("stream_heads")
                    }
                    None => of_events,
                });
                if statement.pages() > pages {
                    found.push(format!("more than {pages} pages: {}", statement.pages()));
                }
                faults.extend(
                    found
                        .into_iter()
                        .map(|fault| (call, fault, statement.explain())),
                );
            }
            let used = |statement: &Statement| {
                let scans = statement.scans();
                scans.iter().any(|scan| scan.ends_with(index))
            };
            if !index.is_empty() && !statements.iter().any(used) {
                faults.push((call, format!("{index} is not used"), String::new()));
            }
        }
        for (call, pages) in NATIVE {
            let looked = explained_pages(&mut session.client, call);
            if looked > pages {
                faults.push((
                    call,
                    format!("more than {pages} pages: {looked}"),
                    String::new(),
                ));
            }
        }
        for call in WRITES {
            for statement in (0..7).flat_map(|_| session.statements(call)) {
                seen += 1;
                let sequential = statement
                    .faults()
                    .into_iter()
                    .filter(|fault| fault.starts_with("Seq Scan"));
                faults.extend(sequential.map(|fault| (call, fault, statement.explain())));
            }
        }
    }
    faults.sort();
    faults.dedup_by(|one, other| (one.0, &one.1) == (other.0, &other.1));
    for (call, fault, plan) in &faults {
        println!("{call}: {fault}");
        if std::env::var_os("MIRE_SHOW_PLANS").is_some() {
            println!("{plan}");
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults in {seen} plans; MIRE_SHOW_PLANS=1 shows them",
        faults.len()
    );
    println!(
        "{seen} plans of {} calls looked at, each as it should be",
        HOT.len() + ASKED.len() + WRITES.len()
    );
}
