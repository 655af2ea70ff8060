//! One active processor an instance: whoever claims, however many at once; what is stranded is found again; what is not due
//! costs nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use mire_cluster::{Database, shared};
use mire_tests::saga::{
    answer, change, claim, claim_one, commit, deliver, leaks, row, start, started, words,
};
use mire_tests::session::{connect, refused, torture_time, value, wait_until};
use postgres::Client;
use serde_json::{Value, json};

fn store() -> (Database<'static>, Client) {
    let database = shared().fresh_database().unwrap();
    let client = connect(&database.url);
    (database, client)
}

fn names(claimed: &[mire_tests::saga::Claimed]) -> Vec<&str> {
    claimed.iter().map(|c| c.instance.as_str()).collect()
}

#[test]
fn the_oldest_are_taken_first_and_the_last_row_tells_when_to_come_again() {
    let (_database, mut client) = store();
    let waiting = |n: u32| {
        let facts = json!([{"fact": "started"}, {"fact": "abandoned", "step": "a"}]);
        started(
            &n.to_string(),
            &json!({"due_at": u64::from(10 - n) * 1_000_000, "facts": facts}),
        )
    };
    start(&mut client, &(1..=5).map(waiting).collect::<Vec<_>>());
    start(
        &mut client,
        &[started(
            "later",
            &json!({"due_in_ms": 20_000, "facts": [{"fact": "started"}, {"fact": "x"}]}),
        )],
    );
    let (claimed, wait) = claim(&mut client, "me", 3, "1 min");
    assert_eq!(names(&claimed), ["5", "4", "3"]);
    assert!(wait.unwrap() < 0.0, "there are more");
    let (claimed, wait) = claim(&mut client, "me", 2, "1 min");
    assert_eq!(names(&claimed), ["2", "1"]);
    assert!((15.0..20.1).contains(&wait.unwrap()), "the timer: {wait:?}");
    let other = "SELECT count(*) FILTER (WHERE saga IS NOT NULL), bool_and(next_due_at IS NULL) FROM mire.saga_claim('me', '{t,u}', '{2,1}', 9, '1 min')";
    let others = client.query_one(other, &[]).unwrap();
    assert_eq!(
        (others.get(0), others.get(1)),
        (0_i64, true),
        "other sagas and versions are left alone"
    );
}

#[test]
fn a_claim_brings_the_whole_history_in_order() {
    let (_database, mut client) = store();
    start(&mut client, &[started("1", &json!({}))]);
    for n in 1..=20 {
        deliver(&mut client, &[answer("1", &json!({"data": n}))]);
    }
    let claimed = claim_one(&mut client, "me", "1 min");
    let versions: Vec<i64> = claimed
        .events
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["version"].as_i64().unwrap())
        .collect();
    assert_eq!(versions, (1..=21).collect::<Vec<_>>());
    assert_eq!(claimed.version, 21);
    assert_eq!(claimed.events[20]["facts"][0]["data"], 20);
    let loaded = client
        .query_one(
            "SELECT events, fence, version FROM mire.saga_load('t', '1')",
            &[],
        )
        .unwrap();
    assert_eq!(
        (loaded.get::<_, Value>(0), loaded.get::<_, Option<i64>>(1)),
        (claimed.events, None)
    );
    assert!(
        client
            .query("SELECT FROM mire.saga_load('t', 'none')", &[])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_stranded_instance_is_found_again_when_its_lease_ends_and_the_drive_is_counted() {
    let (_database, mut client) = store();
    start(&mut client, &[started("1", &json!({}))]);
    let first = claim_one(&mut client, "crashes", "300 ms");
    let (none, wait) = claim(&mut client, "other", 10, "1 min");
    assert!(none.is_empty());
    assert!((0.0..0.31).contains(&wait.unwrap()), "{wait:?}");
    // A heartbeat moves only the lease: not to be had when it was first due.
    let renew = format!(
        "SELECT renewed FROM mire.saga_renew('{{t}}', '{{1}}', '{{{}}}', '900 ms')",
        first.fence
    );
    assert!(value::<bool>(&mut client, &renew));
    wait_until("its first expiry has passed", || {
        row(&mut client, "1", "due_at < clock_timestamp()").as_deref() == Some("true")
    });
    let (none, wait) = claim(&mut client, "other", 10, "1 min");
    assert!(none.is_empty());
    assert!((0.0..0.91).contains(&wait.unwrap()), "{wait:?}");
    let mut again = Vec::new();
    wait_until("it is claimed again", || {
        again = claim(&mut client, "other", 10, "20 ms").0;
        !again.is_empty()
    });
    assert_eq!(again[0].attempts, 1);
    assert!(again[0].fence > first.fence);
    wait_until("and again", || {
        again = claim(&mut client, "other", 10, "1 min").0;
        !again.is_empty()
    });
    assert_eq!(again[0].attempts, 2);
}

#[test]
fn what_somebody_has_locked_is_passed_over_and_not_asked_for_at_once() {
    let (database, mut client) = store();
    start(
        &mut client,
        &[started("1", &json!({})), started("2", &json!({}))],
    );
    let mut other = connect(&database.url);
    other.batch_execute("BEGIN").unwrap();
    deliver(&mut other, &[answer("1", &json!({}))]);
    client
        .batch_execute("SET statement_timeout = '5s'")
        .unwrap();
    let (claimed, wait) = claim(&mut client, "me", 10, "1 min");
    assert_eq!(names(&claimed), ["2"]);
    assert!((0.05..0.11).contains(&wait.unwrap()), "{wait:?}");
    other.batch_execute("COMMIT").unwrap();
    let claimed = claim_one(&mut client, "me", "1 min");
    assert_eq!((claimed.instance.as_str(), claimed.version), ("1", 2));
}

#[test]
fn a_claim_that_finds_nothing_writes_nothing() {
    let (_database, mut client) = store();
    start(
        &mut client,
        &[started(
            "1",
            &json!({"facts": [{"fact": "started"}, {"fact": "x"}]}),
        )],
    );
    client.batch_execute("BEGIN").unwrap();
    claim(&mut client, "me", 10, "1 min");
    let wrote: bool = value(
        &mut client,
        "SELECT pg_current_xact_id_if_assigned() IS NOT NULL",
    );
    assert!(!wrote);
    client.batch_execute("COMMIT").unwrap();
}

#[test]
fn bad_arguments_of_a_claim_are_refused() {
    let (_database, mut client) = store();
    for (arguments, code) in [
        ("NULL, '{t}', '{1}', 1, '1 s'", "MI004"),
        ("'me', NULL, '{1}', 1, '1 s'", "MI004"),
        ("'me', '{t}', '{1,2}', 1, '1 s'", "MI004"),
        ("'me', '{t}', '{1}', 0, '1 s'", "22023"),
        ("'me', '{t}', '{1}', NULL, '1 s'", "22023"),
        ("'me', '{t}', '{1}', 1, NULL", "22023"),
        ("'me', '{t}', '{1}', 1, '2 days'", "22023"),
    ] {
        refused(
            client.query(&format!("SELECT mire.saga_claim({arguments})"), &[]),
            code,
        );
    }
}

/// What a torture's claimers know of each other: who drives what just now, and how far each instance should be.
#[derive(Default)]
struct Ledger {
    driven: Mutex<BTreeMap<String, usize>>,
    claims: AtomicUsize,
    lost: AtomicUsize,
}

/// Six claimers with short leases, two of which stall now and then past theirs; answers keep coming meanwhile. A commit that
/// the database took means that nobody else committed under a newer fence: fences in the order of versions only grow.
#[test]
fn two_claimers_never_have_one_instance() {
    let (database, mut client) = store();
    client.batch_execute("CREATE TABLE log (instance text, version bigint, fence bigint, PRIMARY KEY (instance, version))").unwrap();
    let instances = 12;
    start(
        &mut client,
        &(0..instances)
            .map(|n| started(&n.to_string(), &json!({})))
            .collect::<Vec<_>>(),
    );
    let stop = AtomicBool::new(false);
    let ledger = Ledger::default();
    let deadline = Instant::now() + torture_time(5, 60);
    std::thread::scope(|scope| {
        for claimer in 0..6_u64 {
            let (database, ledger, stop) = (&database, &ledger, &stop);
            scope.spawn(move || {
                let mut client = connect(&database.url);
                let name = format!("w{claimer}");
                let mut round = claimer;
                while !stop.load(Ordering::Relaxed) {
                    round = round
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let stalls = claimer < 2 && round >> 60 == 0;
                    let (claimed, _) =
                        claim(&mut client, &name, 3, if stalls { "20 ms" } else { "20 s" });
                    for one in claimed {
                        ledger.claims.fetch_add(1, Ordering::Relaxed);
                        if !stalls {
                            *ledger
                                .driven
                                .lock()
                                .unwrap()
                                .entry(one.instance.clone())
                                .or_default() += 1;
                            assert_eq!(
                                ledger.driven.lock().unwrap()[&one.instance],
                                1,
                                "two have {}",
                                one.instance
                            );
                        } else {
                            std::thread::sleep(std::time::Duration::from_millis(40));
                        }
                        // Before the commit: afterwards another may have it.
                        if !stalls {
                            ledger.driven.lock().unwrap().remove(&one.instance);
                        }
                        let mut version = one.version;
                        loop {
                            let mut transaction = client.transaction().unwrap();
                            let again = json!({"due_in_ms": 0});
                            let item = change(&one.instance, version, Some(one.fence), &again);
                            let outcome = commit(&mut transaction, &[item]).remove(0);
                            match outcome.outcome.as_str() {
                                "committed" => {
                                    let log = "INSERT INTO log VALUES ($1, $2, $3)";
                                    transaction
                                        .execute(
                                            log,
                                            &[&one.instance, &outcome.version, &one.fence],
                                        )
                                        .unwrap();
                                    transaction.commit().unwrap();
                                    break;
                                }
                                // An answer came between: go on from there under the same fence.
                                "conflict" => version = outcome.version.unwrap(),
                                "busy" => {}
                                "lease_lost" => {
                                    ledger.lost.fetch_add(1, Ordering::Relaxed);
                                    break;
                                }
                                other => panic!("{other}: {outcome:?}"),
                            }
                        }
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut client = connect(&database.url);
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let items: Vec<Value> = (0..3)
                    .map(|k| {
                        answer(
                            &((n * 5 + k * 7) % instances).to_string(),
                            &json!({"data": n}),
                        )
                    })
                    .collect();
                assert_eq!(words(&deliver(&mut client, &items)), ["delivered"; 3]);
                std::thread::sleep(std::time::Duration::from_millis(7));
            }
        });
        while Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let inverted = "SELECT count(*) FROM (SELECT fence < lag(fence) OVER (PARTITION BY instance ORDER BY version) AS i FROM log) AS l WHERE i";
    assert_eq!(
        value::<i64>(&mut client, inverted),
        0,
        "a superseded holder committed"
    );
    let committed: i64 = value(&mut client, "SELECT count(*) FROM log");
    let recorded: i64 = value(
        &mut client,
        "SELECT count(*) FROM mire.events WHERE type = '$saga_advanced'",
    );
    assert_eq!(committed, recorded);
    assert!(leaks(&mut client).is_empty());
    println!(
        "{} claims, {committed} commits, {} refused as lost",
        ledger.claims.load(Ordering::Relaxed),
        ledger.lost.load(Ordering::Relaxed)
    );
    assert!(committed > 30 && ledger.lost.load(Ordering::Relaxed) > 0);
}
