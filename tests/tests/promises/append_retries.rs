//! Promise 8: a retry is safe. The same event ids at the same expected version get the first answer again; anything
//! less than a full match is a conflict; and that holds when the connection dies between request and answer.

use mire_cluster::{Database, shared};
use mire_tests::proxy::{Cut, Proxy};
use mire_tests::session::{Appended, append, connect, events, refused, value, wait_until};
use postgres::{Client, Error};
use serde_json::{Value, json};
use uuid::Uuid;

/// Events with these ids, in this order.
fn identified(ids: &[Uuid]) -> Value {
    ids.iter()
        .map(|id| json!({"type": "happened", "data": {}, "id": id}))
        .collect()
}

fn ids<const N: usize>() -> [Uuid; N] {
    std::array::from_fn(|_| Uuid::new_v4())
}

#[test]
fn a_full_match_of_ids_gets_the_first_answer_again() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let [a, b, c, d, e, f] = ids();
    let first = append(&mut client, "r-1", &identified(&[a, b]), Some(0)).unwrap();
    let second = append(&mut client, "r-1", &identified(&[c]), Some(2)).unwrap();
    let third = append(&mut client, "r-1", &identified(&[d, e, f]), Some(3)).unwrap();
    let again = |answer: &Appended| Appended {
        duplicate: true,
        ..answer.clone()
    };

    for (expected, ids, answer) in [
        (0, &[a, b][..], &first),
        (2, &[c][..], &second),
        (3, &[d, e, f][..], &third),
    ] {
        let retried = append(&mut client, "r-1", &identified(ids), Some(expected)).unwrap();
        assert_eq!(retried, again(answer));
    }
    // Only ids are compared: a retry that was encoded anew is still the same.
    let other_data = json!([{"type": "renamed", "data": [1, 2], "metadata": {"try": 2}, "id": c}]);
    assert_eq!(
        append(&mut client, "r-1", &other_data, Some(2)).unwrap(),
        again(&second)
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
        6
    );
    let kept: String = value(
        &mut client,
        "SELECT type FROM mire.read_stream('r-1', 2, 1)",
    );
    assert_eq!(kept, "happened");
}

#[test]
fn a_partial_or_different_match_of_ids_is_a_conflict() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let [a, b, c, stranger] = ids();
    append(&mut client, "r-1", &identified(&[a, b, c]), Some(0)).unwrap();
    for (expected, ids) in [
        (0, vec![a, stranger]),
        (0, vec![stranger, b]),
        (0, vec![b, a]),
        (0, vec![a, b, c, stranger]),
        (0, vec![stranger]),
        (1, vec![a]),
        (2, vec![c, stranger]),
        (2, vec![b]),
        (4, vec![a, b, c]),
    ] {
        let result = append(&mut client, "r-1", &identified(&ids), Some(expected));
        let said = refused(result, "MI001");
        let detail: Value = serde_json::from_str(said.detail().unwrap()).unwrap();
        assert_eq!(
            detail,
            json!({"stream": "r-1", "expected": expected, "actual": 3})
        );
    }
    // One id is missing: what was not named cannot be recognised.
    let unnamed = json!([{"type": "t", "data": 1, "id": a}, {"type": "t", "data": 1}]);
    refused(append(&mut client, "r-1", &unnamed, Some(0)), "MI001");
    // The ids stand in another stream: they are not unique across the store.
    append(&mut client, "r-2", &identified(&[a, b, c]), Some(0)).unwrap();
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
        6
    );
}

#[test]
fn a_prefix_of_what_was_appended_counts_as_its_retry_and_writes_nothing() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let [a, b] = ids();
    let whole = append(&mut client, "r-1", &identified(&[a, b]), Some(0)).unwrap();
    let prefix = append(&mut client, "r-1", &identified(&[a]), Some(0)).unwrap();
    assert_eq!((prefix.version, prefix.duplicate), (1, true));
    assert_eq!(prefix.position, whole.position.map(|position| position - 1));
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('r-1')"),
        2
    );
}

#[test]
fn without_a_numbered_expected_version_no_retry_is_recognised() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let [a] = ids();
    for (expected, version) in [(None, 1), (None, 2), (Some(-1), 3)] {
        let appended = append(&mut client, "r-1", &identified(&[a]), expected).unwrap();
        assert_eq!((appended.version, appended.duplicate), (version, false));
    }
}

#[test]
fn ids_repeated_within_a_call_are_refused() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let [a, b] = ids();
    let said = refused(
        append(&mut client, "r-1", &identified(&[a, b, a]), Some(0)),
        "MI004",
    );
    let detail: Value = serde_json::from_str(said.detail().unwrap()).unwrap();
    assert_eq!(detail["item"], 3);
    let call = "SELECT mire.append_events('r-1', ARRAY['t', 't'], ARRAY['1', '2']::jsonb[], NULL, $1, NULL)";
    refused(client.execute(call, &[&&[b, b][..]]), "MI004");
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.stream_heads"),
        0
    );
}

#[test]
fn an_erased_event_cannot_be_mistaken_for_a_retry() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let [a, b] = ids();
    append(&mut client, "r-1", &identified(&[a]), Some(0)).unwrap();
    append(&mut client, "r-1", &identified(&[b]), Some(1)).unwrap();
    client
        .execute("SELECT mire.truncate_stream('r-1', 2)", &[])
        .unwrap();
    refused(
        append(&mut client, "r-1", &identified(&[a]), Some(0)),
        "MI001",
    );
    let kept = append(&mut client, "r-1", &identified(&[b]), Some(1)).unwrap();
    assert!(kept.duplicate);
    client
        .execute("SELECT mire.delete_stream('r-1')", &[])
        .unwrap();
    refused(
        append(&mut client, "r-1", &identified(&[b]), Some(1)),
        "MI005",
    );
}

/// Appends through the proxy, which cuts; true when the caller got no answer.
fn unanswered(proxy: &Proxy, database: &Database<'_>, cut: Cut, events: &Value) -> bool {
    let mut client = connect(&proxy.url(&database.name));
    let call = "SELECT * FROM mire.append('cut-1', $1, 0)";
    let statement = client.prepare(call).unwrap();
    proxy.cut_next(cut);
    let answer = client.query_one(&statement, &[events]);
    answer.is_err_and(|error| error.as_db_error().is_none())
}

/// Waits until the backend of a cut connection has carried out, or dropped, what it was told.
fn settled(database: &Database<'_>) -> Client {
    let mut client = connect(&database.url);
    wait_until("nobody else is connected", || {
        let others = "SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        value::<i64>(&mut client, others) == 0
    });
    client
}

#[test]
fn a_retry_after_a_connection_cut_before_the_answer_is_told_what_was_done() {
    let database = shared().fresh_database().unwrap();
    let proxy = Proxy::before(shared().port());
    let sent = identified(&ids::<3>());
    assert!(unanswered(&proxy, &database, Cut::BeforeTheAnswer, &sent));
    let mut client = settled(&database);
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('cut-1')"),
        3
    );

    let first: i64 = value(
        &mut client,
        "SELECT max(position) FROM mire.read_stream('cut-1')",
    );
    let retried = append(&mut client, "cut-1", &sent, Some(0)).unwrap();
    assert_eq!(
        retried,
        Appended {
            version: 3,
            position: Some(first),
            duplicate: true
        }
    );
    // Somebody else's append in the meantime does not hide it.
    append(&mut client, "cut-1", &events(5), Some(3)).unwrap();
    assert_eq!(
        append(&mut client, "cut-1", &sent, Some(0)).unwrap(),
        retried
    );
}

#[test]
fn a_retry_after_a_connection_cut_behind_the_request_appends_once() {
    const ROUNDS: i64 = 10;
    let proxy = Proxy::before(shared().port());
    let mut carried_out = 0;
    for _ in 0..ROUNDS {
        let database = shared().fresh_database().unwrap();
        let sent = identified(&ids::<2>());
        assert!(unanswered(&proxy, &database, Cut::AfterTheRequest, &sent));
        let retry = |mut client: Client| -> Result<Appended, Error> {
            append(&mut client, "cut-1", &sent, Some(0))
        };
        // At once, while the cut one may still be at work: the answer is the same.
        let early = retry(connect(&database.url)).unwrap();
        let mut client = settled(&database);
        assert_eq!(
            value::<i64>(&mut client, "SELECT count(*) FROM mire.events"),
            2
        );
        carried_out += i64::from(early.duplicate);
        let late = retry(client).unwrap();
        assert_eq!(
            late,
            Appended {
                duplicate: true,
                ..early
            }
        );
    }
    println!(
        "{carried_out} of {ROUNDS} cut requests had been carried out; every retry left each event once"
    );
}
