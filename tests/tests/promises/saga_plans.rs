//! What sagas cost: with ten thousand instances waiting and a hundred thousand ended ones the hot calls go through indexes and
//! look at few pages; heartbeats and commits that keep the lease are HOT; four commits write at most 5 KB of WAL; a call for
//! many instances is not dearer an instance than one for few.

use std::time::{Duration, Instant};

use mire_cluster::{Cluster, shared};
use mire_tests::plans::Explained;
use mire_tests::saga::{
    answer, change, commit, deliver, message, start, start_held, started, words,
};
use mire_tests::session::{connect, value, wait_until};
use postgres::Client;
use serde_json::{Value, json};

/// 100,000 ended instances, 10,000 that wait for an answer, 2,000 with a timer, 500 held whose first due time has passed, 200
/// due; 10,000 messages that are sent, 3,000 in backoff each with one behind it, 100 to send. Five sagas, three versions.
const MANY: &str = "
  INSERT INTO mire.sagas (stream_no, saga, instance, topology_version, status, due_at, lease_expires_at, holder, fence, steps,
                          started_at, changed_at, ended_at)
  SELECT n, CASE n % 5 WHEN 0 THEN 't' ELSE 'saga' || n % 5 END, n::text, CASE WHEN n % 10 = 0 THEN 1 ELSE 1 + n % 3 END,
         CASE WHEN n > 12700 THEN 'completed' WHEN n % 20 = 3 THEN 'parked' ELSE 'running' END,
         CASE WHEN n <= 200 THEN now() - n * interval '1 s' WHEN n <= 700 THEN now() - interval '1 min'
              WHEN n <= 2700 THEN now() + n * interval '1 s' END,
         CASE WHEN n BETWEEN 201 AND 700 THEN now() + interval '10 min' ELSE '-infinity' END,
         CASE WHEN n BETWEEN 201 AND 700 THEN 'w' END, 1, CASE WHEN n > 12700 THEN '{}' ELSE '{a}'::text[] END,
         now() - n * interval '1 min', now(), CASE WHEN n > 12700 THEN now() - interval '1 day' END
    FROM generate_series(1, 112700) AS n;
  INSERT INTO mire.stream_heads (stream_no, stream, version)
  SELECT stream_no, '$saga:' || saga || '-' || instance, 2 FROM mire.sagas;
  INSERT INTO mire.events (position, stream_no, version, event_id, recorded_at, category, type, data)
  SELECT stream_no * 2 + v, stream_no, v, md5(stream_no || '/' || v)::uuid, now(), '$saga:' || saga, '$saga_started', '{\"facts\": [{\"fact\": \"started\"}]}'
    FROM mire.sagas, generate_series(1, 2) AS v;
  INSERT INTO mire.outbox (stream_no, saga, instance, step, undo, activation, request, key, kind, data, status, due_at, fence)
  SELECT s.stream_no, s.saga, s.instance, 'a', false, 1, 0, format('%s/%s', s.instance, k), 'kind' || s.stream_no % 4, '{}',
         CASE WHEN s.stream_no <= 2700 OR s.stream_no > 5800 THEN 'sent' ELSE 'pending' END,
         CASE WHEN s.stream_no BETWEEN 2701 AND 5700 AND k = 1 THEN now() + interval '1 h' ELSE now() - interval '1 min' END, 1
    FROM mire.sagas AS s, generate_series(1, 2) AS k
   WHERE s.stream_no <= 12700 AND (k = 1 OR s.stream_no BETWEEN 2701 AND 5700);
  SELECT setval('mire.positions', 1000000), setval('mire.stream_numbers', 200000), setval('mire.fences', 1000);
";

/// The call, and the most pages that one of its statements may look at.
const HOT: [(&str, u64); 15] = [
    (
        "SELECT count(*) FROM mire.saga_claim('w', '{t}', '{1}', 5, '1 min')",
        1_500,
    ),
    (
        "SELECT count(*) FROM mire.saga_claim('w', '{t,saga1,saga2,saga3,saga4,none}', '{1,1,2,3,1,1}', 5, '1 min')",
        3_000,
    ),
    (
        "SELECT count(*) FROM mire.saga_claim('w', '{none}', '{1}', 10, '1 min')",
        50,
    ),
    ("SELECT count(*) FROM mire.saga_load('t', '50')", 50),
    ("SELECT count(*) FROM mire.saga_history('t', '50')", 50),
    (
        "SELECT count(*) FROM mire.saga_renew('{t,t}', '{50,55}', '{1,1}', '1 min')",
        100,
    ),
    ("SELECT count(*) FROM mire.saga_list()", 3_000),
    (
        "SELECT count(*) FROM mire.saga_list('t', '{parked}')",
        1_000,
    ),
    (
        "SELECT count(*) FROM mire.saga_list('t', '{completed}', max_count => 20)",
        1_000,
    ),
    (
        "SELECT count(*) FROM mire.saga_list(statuses => '{parked}', min_age => '1 h')",
        2_000,
    ),
    (
        "SELECT count(*) FROM mire.outbox_claim('w', '{kind1}', 10, '1 min')",
        40_000,
    ),
    (
        "SELECT count(*) FROM mire.outbox_claim('w', NULL, 10, '1 min')",
        90_000,
    ),
    (
        "SELECT count(*) FROM mire.outbox_claim('w', '{$answer}', 10, '1 min')",
        50,
    ),
    ("SELECT count(*) FROM mire.saga_prune('2 days')", 100),
    ("SELECT count(*) FROM mire.saga_status", 20_000),
];

/// Writes that must find their rows by index, whatever else there is.
const WRITES: [&str; 5] = [
    "SELECT mire.saga_start(ARRAY[jsonb_build_object('saga', 't', 'instance', gen_random_uuid(), 'topology_version', 1, 'facts', '[{\"fact\": \"started\"}]'::jsonb)])",
    "SELECT mire.saga_commit(ARRAY[jsonb_build_object('saga', 't', 'instance', '12000', 'version', mire.stream_version('$saga:t-12000'), 'status', 'running',
       'facts', '[{\"fact\": \"x\"}]'::jsonb, 'settled', '[\"12000/1\"]'::jsonb, 'withdraw', '[\"x\"]'::jsonb, 'id', 'x')], 'w', '1 min')",
    "SELECT mire.saga_deliver(ARRAY['{\"saga\": \"t\", \"instance\": \"12005\", \"step\": \"a\", \"id\": \"x\"}', '{\"saga\": \"t\", \"instance\": \"12010\", \"step\": \"a\"}']::jsonb[])",
    "SELECT mire.outbox_ack(ARRAY['{\"message_no\": 9000, \"fence\": 1, \"outcome\": \"sent\", \"response\": {}}']::jsonb[])",
    "SELECT mire.outbox_renew('{9001}', '{1}', '1 min')",
];

#[test]
fn hot_calls_among_many_instances_use_indexes() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client.batch_execute(MANY).unwrap();
    client
        .batch_execute("VACUUM ANALYZE mire.sagas, mire.outbox, mire.events, mire.stream_heads")
        .unwrap();
    let mut faults: Vec<String> = Vec::new();
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        let mut session = Explained::connect(&database.url);
        session
            .client
            .batch_execute(&format!("SET plan_cache_mode = {mode}"))
            .unwrap();
        let rounds = if mode == "auto" { 7 } else { 1 };
        let calls = HOT.into_iter().chain(WRITES.map(|call| (call, 300)));
        for (call, pages) in calls {
            for _ in 0..rounds {
                for statement in session.statements(call) {
                    let scans = statement.scans();
                    let sequential = scans.iter().filter(|scan| scan.starts_with("Seq"));
                    faults.extend(
                        sequential.map(|scan| format!("{call}: {scan}: {}", statement.query)),
                    );
                    if statement.pages() > pages {
                        faults.push(format!(
                            "{call}: {} pages: {}",
                            statement.pages(),
                            statement.explain()
                        ));
                    }
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    for fault in &faults {
        println!("{fault:.3000}");
    }
    assert!(faults.is_empty(), "{} faults", faults.len());
}

fn counters(client: &mut Client) -> (i64, i64) {
    client
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .unwrap();
    let row = client
        .query_one("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'mire.sagas'::regclass", &[])
        .unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn figures_of_heartbeats_and_commits_that_keep_the_lease_are_hot() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let items: Vec<Value> = (0..50)
        .map(|n| started(&n.to_string(), &json!({"keep": true, "steps": ["first"]})))
        .collect();
    let held = start_held(&mut client, &items, "1 min");
    for round in 1..=4 {
        let items: Vec<Value> = held
            .iter()
            .enumerate()
            .map(|(n, held)| {
                let more = json!({"keep": true, "steps": [format!("step {round}")], "error": "some error", "due_in_ms": 5});
                change(&n.to_string(), round, held.fence, &more)
            })
            .collect();
        assert!(
            words(&commit(&mut client, &items))
                .iter()
                .all(|word| *word == "committed")
        );
        client.execute("SELECT mire.saga_renew(array_agg(saga), array_agg(instance), array_agg(fence), '1 min') FROM mire.sagas", &[]).unwrap();
    }
    let (mut all, mut hot) = (0, 0);
    wait_until("the counters have come", || {
        (all, hot) = counters(&mut client);
        all >= 400
    });
    println!("{hot} of {all} updates are HOT");
    // What does not fit on its page any more moves: fillfactor leaves room, and pruning makes some.
    assert!(hot * 100 >= all * 95, "{hot} of {all}");
}

/// Start, two commits that keep the lease, and the end, as a runner drives it. Without the full pages after a checkpoint.
#[test]
fn the_four_commits_of_a_saga_write_little_wal() {
    let cluster = Cluster::builder()
        .setting("full_page_writes", "off")
        .setting("autovacuum", "off")
        .start()
        .unwrap();
    let mut client = connect(&cluster.url("mire"));
    let activated = |step: &str| json!({"fact": "activated", "step": step, "activation": 1, "requests": [{"type": format!("{step}_it"), "data": {"cents": 12000}}]});
    let answered = |step: &str| json!({"fact": "answered", "step": step, "activation": 1, "request": 0, "ok": true, "data": {"receipt": 7}});
    let completed =
        |step: &str| json!({"fact": "completed", "step": step, "output": {"receipt": 7}});
    let mut drive = |instance: &str| {
        let first = started(
            instance,
            &json!({"keep": true, "id": instance, "steps": ["reserve"],
            "facts": [{"fact": "started", "state": {"guest": "Ada", "cents": 12000}}, activated("reserve")]}),
        );
        let fence = start_held(&mut client, &[first], "1 min")[0].fence;
        for (version, done, next) in [
            (1, "reserve", Some("pay")),
            (2, "pay", Some("ticket")),
            (3, "ticket", None),
        ] {
            let mut facts = vec![answered(done), completed(done)];
            facts.push(next.map_or_else(
                || json!({"fact": "ended", "outcome": "completed"}),
                activated,
            ));
            let more = json!({"keep": next.is_some(), "id": format!("{instance}/{version}"), "facts": facts,
                "status": if next.is_some() { "running" } else { "completed" }, "steps": next.into_iter().collect::<Vec<_>>()});
            assert_eq!(
                words(&commit(
                    &mut client,
                    &[change(instance, version, fence, &more)]
                )),
                ["committed"]
            );
        }
        value::<i64>(
            &mut client,
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint",
        )
    };
    let mut bytes: Vec<i64> = Vec::new();
    let mut last = drive("warm");
    for n in 0..50 {
        let now = drive(&format!("booking-{n}"));
        bytes.push(now - last);
        last = now;
    }
    bytes.sort_unstable();
    println!(
        "four commits: {} bytes of WAL (median), {} (worst)",
        bytes[25], bytes[49]
    );
    assert!(bytes[25] <= 5_120, "{}", bytes[25]);
}

#[test]
fn a_call_for_many_is_not_dearer_an_instance_than_one_for_few() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    client
        .batch_execute("SET mire.allow_async_commit = on; SET synchronous_commit = off")
        .unwrap();
    let mut time = |prefix: &str, many: usize| -> [Duration; 3] {
        let name = |n: usize| format!("{prefix}{n}");
        let items: Vec<Value> = (0..many)
            .map(|n| started(&name(n), &json!({"keep": true})))
            .collect();
        let begin = Instant::now();
        let held = start_held(&mut client, &items, "10 min");
        let starts = begin.elapsed();
        let items: Vec<Value> = held
            .iter()
            .enumerate()
            .map(|(n, h)| change(&name(n), 1, h.fence, &json!({"keep": true})))
            .collect();
        let begin = Instant::now();
        assert!(
            words(&commit(&mut client, &items))
                .iter()
                .all(|word| *word == "committed")
        );
        let commits = begin.elapsed();
        let items: Vec<Value> = (0..many).map(|n| answer(&name(n), &json!({}))).collect();
        let begin = Instant::now();
        assert!(
            words(&deliver(&mut client, &items))
                .iter()
                .all(|word| *word == "delivered")
        );
        [starts, commits, begin.elapsed()]
    };
    time("warm", 64);
    let few = time("few", 256);
    let many = time("many", 4096);
    println!("256: {few:?}; 4096: {many:?}");
    // Sixteen times as many: quadratic would be 256 times as long.
    for (few, many) in few.iter().zip(&many) {
        assert!(*many < *few * 64, "{few:?}, {many:?}");
    }
}

/// A session keeps the plans that it has made while each table had a page; then requests pile up.
#[test]
fn plans_made_for_tables_of_a_page_end_when_these_grow() {
    const CALLS: [&str; 6] = [
        "SELECT count(*) FROM mire.saga_claim('w', '{t}', '{1}', 5, '1 min')",
        "SELECT count(*) FROM mire.outbox_claim('w', '{kind}', 5, '1 min')",
        "SELECT mire.outbox_ack(ARRAY['{\"message_no\": 1, \"fence\": 1, \"outcome\": \"sent\", \"response\": {}}']::jsonb[])",
        "SELECT mire.outbox_renew('{1}', '{1}', '1 min')",
        "SELECT mire.saga_renew('{t}', '{0}', '{1}', '1 min')",
        "SELECT count(*) FROM mire.saga_load('t', '0')",
    ];
    let cluster = Cluster::builder()
        .setting("autovacuum", "off")
        .start()
        .unwrap();
    let url = cluster.url("mire");
    let mut client = connect(&url);
    let asks = |n: usize| {
        let key = format!("key {n}");
        started(
            &n.to_string(),
            &json!({"steps": ["a"], "due_in_ms": 0, "outbox": [message(&key, "kind")]}),
        )
    };
    start(&mut client, &[asks(0)]);
    client.batch_execute("VACUUM ANALYZE").unwrap();
    let mut session = Explained::connect(&url);
    let mut sequential = || -> Vec<String> {
        let statements = CALLS.iter().flat_map(|call| session.statements(call));
        statements
            .filter(|statement| statement.scans().iter().any(|scan| scan.starts_with("Seq")))
            .map(|statement| statement.query)
            .collect()
    };
    assert!(
        !sequential().is_empty(),
        "a table of a page is read from end to end"
    );
    for burst in 0..4 {
        let items: Vec<Value> = (1..=1_000).map(|n| asks(burst * 1_000 + n)).collect();
        start(&mut client, &items);
    }
    let still = sequential();
    assert!(still.is_empty(), "{}: {still:#?}", still.len());
}
