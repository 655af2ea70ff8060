//! Item 8: every public SQL function under hostile input answers, or refuses with a documented SQLSTATE; no backend
//! dies, and what was refused has written nothing.
//!
//! The functions and their arguments come from the catalog, so that a new one is tested from its first day.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mire_cluster::Cluster;
use mire_tests::hostile::{argument, coherent};
use mire_tests::session::{append, connect, events, pid, value};
use postgres::{Client, Error, SimpleQueryMessage};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// What a call may be refused with, and why. docs/ERRORS.md has them all.
const DOCUMENTED: [(&str, &str); 23] = [
    ("MI001", "not at the expected version"),
    ("MI002", "must exist, and does not"),
    ("MI003", "a fence that holds no lease"),
    ("MI004", "an event, a name, an array's shape"),
    ("MI005", "the stream was deleted"),
    ("MI007", "a position that was never handed out"),
    ("MI008", "an instance or a message that is not there"),
    (
        "MI009",
        "something that makes no sense in an instance's status",
    ),
    ("22023", "a number or interval out of its range"),
    ("42501", "this role may not"),
    (
        "42704",
        "a role, a subscription or a parked stream that is not there",
    ),
    (
        "42710",
        "a subscription that exists with another definition",
    ),
    (
        "55000",
        "a subscription that is on its way to another number of partitions",
    ),
    ("57014", "statement_timeout: only while waiting for events"),
    // Postgres itself, before our function is called: the literal is none of its type.
    (
        "22P02",
        "malformed literal: number, JSON, array, uuid, boolean",
    ),
    ("22P05", "JSON with \\u0000"),
    ("22003", "a number that its type cannot hold"),
    ("22007", "malformed interval"),
    ("22015", "an interval beyond its type"),
    ("22021", "bytes that are not UTF-8"),
    ("2202E", "an array whose parts differ in length"),
    (
        "54000",
        "an array's bounds, a JSON string too large, chr(0)",
    ),
    ("54001", "JSON nested beyond max_stack_depth"),
];

/// What execute_all may be refused with besides.
const OF_STATEMENTS: [(&str, &str); 3] = [
    ("22P03", "malformed executions"),
    ("42601", "a statement that is none"),
    ("42883", "a type without a binary format"),
];

fn is_documented(routine: &str, code: &str) -> bool {
    let more = (routine == "execute_all").then_some(OF_STATEMENTS);
    let all = DOCUMENTED.into_iter().chain(more.into_iter().flatten());
    all.map(|(known, _)| known).any(|known| known == code)
}

/// A public function: its name, whether it is called or selected, and its input arguments' names and types.
struct Routine {
    name: String,
    procedure: bool,
    arguments: Vec<(String, String)>,
}

fn routines(client: &mut Client) -> Vec<Routine> {
    let query = "SELECT p.proname, p.prokind = 'p', coalesce(p.proargnames[:p.pronargs], '{}'),
                        ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
                   FROM pg_proc AS p WHERE p.pronamespace = 'mire'::regnamespace
                  ORDER BY p.proname ~ 'delete|epoch', p.proname ~ 'truncate', 1"; // the destructive ones last
    let rows = client.query(query, &[]).unwrap();
    rows.iter()
        .map(|row| Routine {
            name: row.get(0),
            procedure: row.get(1),
            arguments: std::iter::zip(row.get::<_, Vec<String>>(2), row.get::<_, Vec<String>>(3))
                .collect(),
        })
        .collect()
}

/// Calls with every argument hostile, and calls that get past the checks of shapes.
fn call(routine: &Routine) -> BoxedStrategy<String> {
    let all = |strategy: fn(&str, &str) -> BoxedStrategy<String>| {
        routine
            .arguments
            .iter()
            .map(|(name, kind)| strategy(name, kind))
            .collect::<Vec<_>>()
    };
    let (name, procedure) = (routine.name.clone(), routine.procedure);
    prop_oneof![all(|_, kind| argument(kind)), all(coherent)]
        .prop_map(move |arguments| match procedure {
            true => format!("CALL mire.{name}({})", arguments.join(", ")),
            false => format!("SELECT * FROM mire.{name}({})", arguments.join(", ")),
        })
        .boxed()
}

/// Everything that a call could have written, in a form that can be compared.
fn contents(observer: &mut Client) -> String {
    let query = "SELECT concat_ws(' ',
        (SELECT concat_ws(',', count(*), max(position), sum(version)) FROM mire.events),
        (SELECT concat_ws(',', count(*), sum(version), count(*) FILTER (WHERE deleted), sum(truncated_before)) FROM mire.stream_heads),
        (SELECT concat_ws(',', count(*), sum(version)) FROM mire.snapshots),
        (SELECT concat_ws(',', count(*), sum(fence), max(expires_at)) FROM mire.leases),
        (SELECT concat_ws(',', count(*), sum(fence), max(changed_at), max(due_at)) FROM mire.sagas),
        (SELECT concat_ws(',', count(*), sum(fence), sum(attempts), max(due_at)) FROM mire.outbox),
        (SELECT string_agg(role || level, ',' ORDER BY role) FROM mire.grants),
        (SELECT string_agg(store_id::text || epoch, ',') FROM mire.store),
        (SELECT md5(string_agg(relname || coalesce(relacl::text, ''), ',' ORDER BY oid)) FROM pg_class
          WHERE relnamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)),
        (SELECT md5(string_agg(proname || coalesce(proacl::text, ''), ',' ORDER BY oid)) FROM pg_proc
          WHERE pronamespace IN ('mire'::regnamespace, 'mire_internal'::regnamespace)))";
    value(observer, query)
}

/// What must be true of the tables whatever was called.
fn assert_sound(observer: &mut Client) {
    let faults = "SELECT count(*) FROM mire.stream_heads AS s
       LEFT JOIN LATERAL (SELECT count(*) AS n, max(version) AS last, min(version) AS first FROM mire.events AS e
                           WHERE e.stream_no = s.stream_no) AS e ON true
      WHERE s.version > 0 AND (e.last <> s.version OR e.first <> s.truncated_before OR e.n <> e.last - e.first + 1)
         OR s.version = 0 AND e.n > 0";
    assert_eq!(
        value::<i64>(observer, faults),
        0,
        "streams whose events are not what their head says"
    );
    let orphans = "SELECT count(*) FROM mire.events WHERE stream_no NOT IN (SELECT stream_no FROM mire.stream_heads)";
    assert_eq!(value::<i64>(observer, orphans), 0);
    let inverted = "SELECT count(*) FROM (SELECT position < lag(position) OVER (PARTITION BY stream_no ORDER BY version) AS i
                                            FROM mire.events) AS e WHERE i";
    assert_eq!(value::<i64>(observer, inverted), 0);
}

fn prepare(client: &mut Client) {
    append(client, "there-1", &events(3), Some(0)).unwrap();
    append(client, "there-2", &events(1), Some(0)).unwrap();
    append(client, "truncated-1", &events(4), Some(0)).unwrap();
    append(client, "gone-1", &events(2), Some(0)).unwrap();
    client
        .batch_execute(
            "SELECT mire.truncate_stream('truncated-1', 3), mire.delete_stream('gone-1'),
                    mire.save_snapshot('there-1', 2, 1, '{}'), mire.acquire_lease('there-1', 'me', '1 h');
             CREATE ROLE friend; CREATE ROLE hostile LOGIN; SELECT mire.grant_access('hostile', 'admin');
             SELECT mire.create_subscription('feed', partitions => 2), mire.acquire_subscription('feed', 0, 'me', '1 h')",
        )
        .unwrap();
}

fn code_of(
    routine: &str,
    result: Result<Vec<SimpleQueryMessage>, Error>,
) -> Result<String, TestCaseError> {
    match result {
        Ok(_) => Ok("success".to_owned()),
        Err(error) => match error.as_db_error() {
            Some(said) => {
                let code = said.code().code();
                let documented = is_documented(routine, code);
                prop_assert!(documented, "undocumented {}: {}", code, said.message());
                if code.starts_with("MI") {
                    let detail = said.detail().unwrap_or_default();
                    prop_assert!(
                        serde_json::from_str::<serde_json::Value>(detail).is_ok(),
                        "DETAIL is no JSON: {}",
                        detail
                    );
                    prop_assert!(said.hint().is_some(), "{} has no HINT", code);
                }
                Ok(code.to_owned())
            }
            None => Err(TestCaseError::fail(format!(
                "the connection is gone: {error:?}"
            ))),
        },
    }
}

#[test]
fn every_public_function_answers_hostile_input_or_refuses_it_by_the_book() {
    let long = std::env::var("MIRE_LONG").is_ok_and(|value| value == "1");
    let cluster = Cluster::start().unwrap();
    let mut observer = connect(&cluster.url("mire"));
    prepare(&mut observer);
    let caller = RefCell::new(connect(&cluster.url_as("hostile", "mire")));
    let process = pid(&mut caller.borrow_mut());
    let observer = RefCell::new(observer);
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();

    let all = routines(&mut observer.borrow_mut());
    for routine in &all {
        // The wait is cut short; nothing else may take that long.
        let timeout = if routine.procedure { "50ms" } else { "30s" };
        caller
            .borrow_mut()
            .batch_execute(&format!("SET statement_timeout = '{timeout}'"))
            .unwrap();
        // Without arguments there is nothing to vary.
        let cases = match (routine.arguments.is_empty(), long) {
            (true, _) => 3,
            (false, true) => 2_000,
            (false, false) => 80,
        };
        let config = Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        };
        let mut runner = match long {
            true => TestRunner::new(config),
            false => {
                TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
            }
        };
        let codes = RefCell::new(BTreeMap::<String, u32>::new());
        let outcome = runner.run(&call(routine), |sql| {
            let before = contents(&mut observer.borrow_mut());
            let code = code_of(&routine.name, caller.borrow_mut().simple_query(&sql))?;
            prop_assert_eq!(pid(&mut caller.borrow_mut()), process);
            let undisturbed = code != "57014" || routine.procedure;
            prop_assert!(undisturbed, "it took longer than {}", timeout);
            if code != "success" {
                prop_assert_eq!(
                    contents(&mut observer.borrow_mut()),
                    before,
                    "a refused call has written"
                );
            }
            *codes.borrow_mut().entry(code).or_default() += 1;
            Ok(())
        });
        if let Err(failure) = outcome {
            let failure = failure.to_string();
            panic!("{}: {}", routine.name, &failure[..failure.len().min(3_000)]);
        }
        println!("{}: {:?}", routine.name, codes.borrow());
        for (code, count) in codes.into_inner() {
            *tally.entry(code).or_default() += count;
        }
        // A call may have changed this role's own level.
        observer
            .borrow_mut()
            .batch_execute("SELECT mire.grant_access('hostile', 'admin')")
            .unwrap();
    }
    assert_sound(&mut observer.borrow_mut());
    cluster.assert_clean_log(&[]);
    println!(
        "{} functions, {} calls: {tally:?}",
        all.len(),
        tally.values().sum::<u32>()
    );
}

#[test]
fn every_refusal_of_hostile_input_is_in_the_table_of_errors() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ERRORS.md");
    let table = std::fs::read_to_string(table).unwrap();
    for (code, reason) in DOCUMENTED.into_iter().chain(OF_STATEMENTS) {
        assert!(table.contains(&format!("`{code}`")), "{code}: {reason}");
    }
}
