//! A commit is checked against the lease's fence and expiry and against the log's version, by the database; it lands whole or
//! not at all, and is answered the same when it is sent again.

use mire_tests::saga::{
    answer, change, claim, claim_one, commit, deliver, held, keys, leaks, message, row, start,
    started, words,
};
use mire_tests::session::{value, wait_until};
use serde_json::json;

#[test]
fn a_commit_appends_its_facts_and_lets_go() {
    let (_database, mut client, fence) = held("1 min");
    let done = commit(
        &mut client,
        &[change(
            "1",
            1,
            Some(fence),
            &json!({"due_in_ms": 50_000, "error": "oh"}),
        )],
    );
    assert_eq!(
        (done[0].outcome.as_str(), done[0].version, done[0].fence),
        ("committed", Some(2), None)
    );
    let state = "concat_ws(' ', status, steps, error, attempts, holder, lease_expires_at = '-infinity', due_at > clock_timestamp() + '40 s')";
    assert_eq!(
        row(&mut client, "1", state).unwrap(),
        "running {a} oh 0 t t"
    );
    let kinds: String = value(
        &mut client,
        "SELECT string_agg(type, ' ' ORDER BY version) FROM mire.read_stream('$saga:t-1')",
    );
    assert_eq!(kinds, "$saga_started $saga_advanced");
    let again = commit(&mut client, &[change("1", 2, Some(fence), &json!({}))]);
    assert_eq!(words(&again), ["lease_lost"], "it has let go");
}

#[test]
fn a_kept_lease_goes_on_and_is_the_same() {
    let (_database, mut client, fence) = held("10 s");
    let before = row(&mut client, "1", "due_at");
    let kept = commit(
        &mut client,
        &[change(
            "1",
            1,
            Some(fence),
            &json!({"keep": true, "due_in_ms": 1}),
        )],
    );
    assert_eq!(
        (kept[0].outcome.as_str(), kept[0].fence),
        ("committed", Some(fence))
    );
    assert_eq!(
        row(&mut client, "1", "due_at"),
        before,
        "due_at is left alone: HOT"
    );
    assert_eq!(
        row(
            &mut client,
            "1",
            "lease_expires_at > clock_timestamp() + '50 s'"
        )
        .as_deref(),
        Some("true")
    );
    assert!(claim(&mut client, "other", 10, "1 min").0.is_empty());
}

#[test]
fn no_facts_append_nothing_but_the_version_is_checked_all_the_same() {
    let (_database, mut client, fence) = held("1 min");
    let stale = commit(
        &mut client,
        &[change("1", 0, Some(fence), &json!({"facts": []}))],
    );
    assert_eq!(
        (stale[0].outcome.as_str(), stale[0].version),
        ("conflict", Some(1))
    );
    let done = commit(
        &mut client,
        &[change(
            "1",
            1,
            Some(fence),
            &json!({"facts": [], "failed": true, "error": "bad state", "due_in_ms": 0}),
        )],
    );
    assert_eq!(
        (done[0].outcome.as_str(), done[0].version),
        ("committed", Some(1))
    );
    let again = claim_one(&mut client, "me", "1 min");
    assert_eq!(
        (again.attempts, row(&mut client, "1", "error").as_deref()),
        (1, Some("bad state"))
    );
    commit(
        &mut client,
        &[change(
            "1",
            1,
            Some(again.fence),
            &json!({"facts": [], "failed": true, "error": "bad state", "due_in_ms": 0}),
        )],
    );
    let again = claim_one(&mut client, "me", "1 min");
    assert_eq!(again.attempts, 2);
    commit(
        &mut client,
        &[change("1", 1, Some(again.fence), &json!({"due_in_ms": 0}))],
    );
    assert_eq!(claim_one(&mut client, "me", "1 min").attempts, 0);
}

/// It is the clock that counts, not when the transaction began: a worker may have been paused in between.
#[test]
fn a_lease_that_expires_within_the_transaction_is_lost() {
    let (_database, mut client, fence) = held("200 ms");
    let mut transaction = client.transaction().unwrap();
    wait_until("it has expired", || {
        let expired = "SELECT lease_expires_at < clock_timestamp() FROM mire.sagas";
        value(&mut transaction, expired)
    });
    let late = commit(&mut transaction, &[change("1", 1, Some(fence), &json!({}))]);
    assert_eq!(words(&late), ["lease_lost"]);
}

#[test]
fn an_expired_lease_is_lost_even_when_nobody_has_taken_it() {
    let (_database, mut client, fence) = held("30 ms");
    wait_until("it has expired", || {
        row(&mut client, "1", "lease_expires_at < clock_timestamp()").as_deref() == Some("true")
    });
    let late = commit(&mut client, &[change("1", 1, Some(fence), &json!({}))]);
    assert_eq!(
        (late[0].outcome.as_str(), late[0].reason.as_deref()),
        ("lease_lost", Some("expired or released"))
    );
    let successor = claim_one(&mut client, "other", "1 min");
    assert!(successor.fence > fence);
    assert_eq!(successor.attempts, 1, "who came back too late is counted");
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 1, Some(fence), &json!({}))]
        )),
        ["lease_lost"]
    );
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 1, Some(successor.fence), &json!({}))]
        )),
        ["committed"]
    );
}

#[test]
fn another_version_is_a_conflict_and_changes_nothing() {
    let (_database, mut client, fence) = held("1 min");
    deliver(&mut client, &[answer("1", &json!({}))]);
    let before = row(&mut client, "1", "sagas");
    let item = change(
        "1",
        1,
        Some(fence),
        &json!({"outbox": [message("k", "mail")], "status": "completed", "steps": []}),
    );
    let outcome = commit(&mut client, &[item]);
    assert_eq!(
        (outcome[0].outcome.as_str(), outcome[0].version),
        ("conflict", Some(2))
    );
    assert_eq!(row(&mut client, "1", "sagas"), before);
    assert_eq!(keys(&mut client), "");
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("1", 2, Some(fence), &json!({}))]
        )),
        ["committed"],
        "the lease stays"
    );
}

#[test]
fn a_commit_sent_again_gets_the_first_answer() {
    let (_database, mut client, fence) = held("1 min");
    let item = change(
        "1",
        1,
        Some(fence),
        &json!({"id": "c1", "keep": true, "outbox": [message("k", "mail")]}),
    );
    let first = commit(&mut client, std::slice::from_ref(&item));
    let again = commit(&mut client, std::slice::from_ref(&item));
    assert_eq!(
        (words(&first), words(&again)),
        (vec!["committed"], vec!["duplicate"])
    );
    assert_eq!(
        (again[0].version, again[0].fence),
        (first[0].version, first[0].fence)
    );
    // Also when more has happened since, and when the lease is gone.
    commit(
        &mut client,
        &[change(
            "1",
            2,
            Some(fence),
            &json!({"status": "completed", "steps": [], "settled": ["k"]}),
        )],
    );
    let after = commit(&mut client, std::slice::from_ref(&item));
    assert_eq!(
        (after[0].outcome.as_str(), after[0].version, after[0].fence),
        ("duplicate", Some(2), None)
    );
    let other = change("1", 1, Some(fence), &json!({"id": "c2"}));
    assert_eq!(words(&commit(&mut client, &[other])), ["lease_lost"]);
    assert_eq!(keys(&mut client), "");
    assert!(leaks(&mut client).is_empty());
}

#[test]
fn a_commit_that_comes_twice_in_one_call_gets_the_first_answer() {
    let (_database, mut client, fence) = held("1 min");
    let item = change("1", 1, Some(fence), &json!({"id": "c1", "keep": true}));
    let both = commit(&mut client, &[item.clone(), item]);
    assert_eq!(words(&both), ["committed", "duplicate"]);
    assert_eq!(
        (both[1].version, both[1].fence),
        (both[0].version, both[0].fence)
    );
    let events = "SELECT count(*) FROM mire.events";
    assert_eq!(value::<i64>(&mut client, events), 2);
}

#[test]
fn without_a_fence_what_nobody_holds_is_taken() {
    let (_database, mut client, _) = held("1 min");
    let outcome = commit(&mut client, &[change("1", 1, None, &json!({}))]);
    assert_eq!(
        (outcome[0].outcome.as_str(), outcome[0].reason.as_deref()),
        ("leased", Some("by me"))
    );
    start(&mut client, &[started("2", &json!({}))]);
    let taken = commit(&mut client, &[change("2", 1, None, &json!({"keep": true}))]);
    assert_eq!(words(&taken), ["committed"]);
    let fence = taken[0].fence.unwrap();
    assert!(
        claim(&mut client, "other", 10, "1 min").0.is_empty(),
        "and held"
    );
    let due = "due_at > clock_timestamp() + '50 s'";
    assert_eq!(
        row(&mut client, "2", due).as_deref(),
        Some("true"),
        "it is found again should the holder not come back"
    );
    assert_eq!(
        words(&commit(&mut client, &[change("2", 2, None, &json!({}))])),
        ["leased"]
    );
    assert_eq!(
        words(&commit(
            &mut client,
            &[change("2", 2, Some(fence), &json!({}))]
        )),
        ["committed"]
    );
    assert_eq!(
        words(&commit(&mut client, &[change("2", 3, None, &json!({}))])),
        ["committed"]
    );
}

#[test]
fn an_ended_instance_holds_nothing() {
    let (_database, mut client, fence) = held("1 min");
    let end = json!({"status": "completed", "steps": [], "keep": true, "due_in_ms": 5, "facts": [{"fact": "ended", "outcome": "completed"}]});
    let outcome = commit(&mut client, &[change("1", 1, Some(fence), &end)]);
    assert_eq!(
        (outcome[0].outcome.as_str(), outcome[0].fence),
        ("committed", None)
    );
    assert_eq!(
        row(
            &mut client,
            "1",
            "concat_ws(' ', due_at, holder, ended_at IS NOT NULL)"
        )
        .as_deref(),
        Some("t")
    );
    let kind: String = value(
        &mut client,
        "SELECT type FROM mire.read_stream('$saga:t-1', 0, 1, true)",
    );
    assert_eq!(kind, "$saga_ended");
    assert!(leaks(&mut client).is_empty());
    // A late answer has it looked at again, and it may turn back.
    deliver(&mut client, &[answer("1", &json!({}))]);
    let late = claim_one(&mut client, "me", "1 min");
    commit(
        &mut client,
        &[change(
            "1",
            3,
            Some(late.fence),
            &json!({"status": "compensating"}),
        )],
    );
    assert_eq!(row(&mut client, "1", "ended_at"), None);
    assert!(leaks(&mut client).is_empty());
}
