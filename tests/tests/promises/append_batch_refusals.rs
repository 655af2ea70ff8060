//! Section 1 and item 8: what `append_batch` refuses, item by item or as a whole call.

use mire_cluster::shared;
use mire_tests::batch::{Item, append_batch};
use mire_tests::session::{connect, refused, value};
use serde_json::json;

#[test]
fn an_item_that_is_invalid_says_why_and_spoils_nothing() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    let fine = || Item::new("fine-1", None, 1);
    let with = |change: &dyn Fn(&mut Item)| {
        let mut item = Item::new("bad-1", None, 2);
        change(&mut item);
        item
    };
    let big = json!("x".repeat(1024 * 1024));
    let bad: [Item; 9] = [
        with(&|item| item.stream = String::new()),
        with(&|item| item.stream = "a\u{7}b".to_owned()),
        with(&|item| item.stream = "x".repeat(513)),
        with(&|item| item.expected = Some(-2)),
        with(&|item| item.events[1].0 = "$stream_deleted".to_owned()),
        with(&|item| item.events[1].0 = String::new()),
        with(&|item| item.events[0].1 = None),
        with(&|item| item.events[1].1 = Some(big.clone())),
        with(&|item| item.ids[1] = item.ids[0]),
    ];
    let mut items = vec![fine()];
    for item in &bad {
        items.extend([item.clone(), fine()]);
    }
    let outcomes = append_batch(&mut client, &items).unwrap();
    for outcome in &outcomes {
        let invalid = outcome.item % 2 == 0;
        assert_eq!(
            outcome.outcome,
            if invalid { "invalid" } else { "appended" },
            "{outcome:?}"
        );
        assert_eq!(
            outcome
                .reason
                .as_ref()
                .is_some_and(|reason| !reason.is_empty()),
            invalid
        );
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.stream_heads"),
        1
    );
    assert_eq!(
        value::<i64>(&mut client, "SELECT mire.stream_version('fine-1')"),
        10
    );
}

#[test]
fn arrays_that_do_not_fit_together_refuse_the_whole_call() {
    let database = shared().fresh_database().unwrap();
    let mut client = connect(&database.url);
    for arguments in [
        "'{a,b}', '{0}', '{1,1}', '{t,t}', '{1,1}'",
        "'{a,b}', NULL, '{1}', '{t}', '{1}'",
        "'{a}', NULL, '{2}', '{t}', '{1,1}'",
        "'{a}', NULL, '{1}', '{t}', '{1,1}'",
        "'{a}', NULL, '{NULL}', '{t}', '{1}'",
        "'{a}', NULL, '{-1}', '{t}', '{1}'",
        "'{a,b}', NULL, '{2147483647,2147483647}', '{t}', '{1}'",
        "'{a}', NULL, '{1}', '{t}', '{1}', ARRAY['{}', '{}']::jsonb[]",
        "'{a}', NULL, '{1}', '{t}', '{1}', NULL, '{}'",
        "NULL, NULL, '{1}', '{t}', '{1}'",
        "'{a}', NULL, NULL, '{t}', '{1}'",
        "'{a}', NULL, '{1}', NULL, '{1}'",
        "'{a}', NULL, '{1}', '{t}', NULL",
        "'{{a},{b}}', NULL, '{1,1}', '{t,t}', '{1,1}'",
        "'[0:0]={a}', NULL, '{1}', '{t}', '{1}'",
        "'{a}', NULL, '[2:2]={1}', '{t}', '{1}'",
    ] {
        let call = format!("SELECT * FROM mire.append_batch({arguments})");
        refused(client.query(&call, &[]), "MI004");
    }
    assert_eq!(
        value::<i64>(&mut client, "SELECT count(*) FROM mire.stream_heads"),
        0
    );
    let none = client.query(
        "SELECT * FROM mire.append_batch('{}', '{}', '{}', '{}', '{}')",
        &[],
    );
    assert!(none.unwrap().is_empty());
}
