//! Saves that are issued together share commits; outcomes are shared by nobody.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use mire_client::{EventStore, ExpectedVersion, Json, NewEvent, SharedCommits};

use super::common::{
    Account, Fixture, deposited, eventually, exactly, fixture, fixture_with, note, slow,
    with_slow_events,
};

/// Commits in this database so far. A session's count arrives when it ends: the store must be gone.
async fn commits(f: &Fixture) -> i64 {
    tokio::time::sleep(Duration::from_millis(500)).await;
    f.number("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_saves_need_far_fewer_commits_than_saves() {
    const TASKS: usize = 256;
    const SAVES: usize = 8;
    let f = fixture().await;
    let before = commits(&f).await;
    let store = EventStore::connect(&f.database.url).await.unwrap();
    let tasks = (0..TASKS).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut account = mire_client::AggregateRoot::<Account>::new(task);
            for n in 0..SAVES {
                account.record(deposited(1));
                assert_eq!(
                    store.save(&mut account).await.unwrap().version,
                    i64::try_from(n).unwrap() + 1
                );
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(Result::unwrap);
    drop(store);
    let commits = commits(&f).await - before;
    println!("{} saves in {commits} commits", TASKS * SAVES);
    assert_eq!(f.event_ids().await.len(), TASKS * SAVES);
    assert!(
        commits * 10 < i64::try_from(TASKS * SAVES).unwrap(),
        "{commits} commits"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_reach_only_their_callers() {
    let f = fixture().await;
    for n in 0..100 {
        f.store
            .append(format!("note-{n}"), ExpectedVersion::NoStream, [note(n)])
            .await
            .unwrap();
    }
    let appends = (0..100).map(|n| {
        let expected = if n % 3 == 0 { exactly(7) } else { exactly(1) };
        f.store.append(format!("note-{n}"), expected, [note(n)])
    });
    for (n, outcome) in join_all(appends).await.into_iter().enumerate() {
        match outcome {
            Ok(recorded) => assert!(n % 3 != 0 && recorded.version == 2),
            Err(error) => {
                let conflict = error.conflict().unwrap();
                assert!(
                    n % 3 == 0
                        && conflict.stream == format!("note-{n}")
                        && conflict.actual == Some(1)
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_spoils_a_whole_batch_spoils_nobody_elses_append() {
    let f = fixture().await;
    let appends = (0..60).map(|n| {
        let event = match n {
            // Valid JSON, but no number that PostgreSQL could hold: the batch fails before the function is called.
            17 | 42 => {
                NewEvent::untyped("note.taken", &Json::from_text("1e400000").unwrap()).unwrap()
            }
            _ => note(n),
        };
        f.store
            .append(format!("note-{}", n % 20), ExpectedVersion::Any, [event])
    });
    for (n, outcome) in join_all(appends).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert!(n != 17 && n != 42),
            Err(error) => assert!((n == 17 || n == 42) && error.is_invalid(), "{n}: {error}"),
        }
    }
    assert_eq!(f.event_ids().await.len(), 58);
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_to_one_stream_happen_in_the_order_of_their_calls() {
    let f = fixture_with(
        EventStore::builder().shared_commits(SharedCommits::new().max_batch_events(7)),
    )
    .await;
    let appends = (0..200).map(|n| {
        f.store
            .append(format!("note-{}", n % 3), ExpectedVersion::Any, [note(n)])
    });
    join_all(appends)
        .await
        .into_iter()
        .for_each(|outcome| assert!(outcome.is_ok()));
    let rows = f
        .session()
        .await
        .query(
            "SELECT (data ->> 'number')::bigint FROM mire.events ORDER BY stream_no, version",
            &[],
        )
        .await
        .unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert!(
        numbers
            .chunk_by(|a, b| a % 3 == b % 3)
            .all(|stream| stream.is_sorted()),
        "{numbers:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_loses_nobody_elses_events() {
    let f = fixture().await;
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = f.store.clone();
            tokio::spawn(async move {
                store
                    .append(format!("note-{n}"), ExpectedVersion::Any, [note(n)])
                    .await
            })
        })
        .collect();
    for task in tasks.iter().step_by(2) {
        task.abort();
    }
    let mut acknowledged = HashSet::new();
    for (n, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(outcome) => assert!(acknowledged.insert(outcome.unwrap().ids[0])),
            Err(dropped) => assert!(dropped.is_cancelled() && n % 2 == 0),
        }
    }
    assert!(acknowledged.len() >= 100);

    // One that is dropped when it has left with the others, for certain.
    with_slow_events(&f).await;
    let slow = slow(0.5);
    let id = slow.id();
    let slow = f.store.append("slow-1", ExpectedVersion::Any, [slow]);
    let company = (0..20).map(|n| {
        f.store
            .append(format!("company-{n}"), ExpectedVersion::Any, [note(n)])
    });
    let slow = tokio::time::timeout(Duration::from_millis(200), slow);
    let (dropped, company) = tokio::join!(slow, join_all(company));
    assert!(dropped.is_err());
    acknowledged.extend(company.into_iter().map(|outcome| outcome.unwrap().ids[0]));
    eventually(|| async { f.event_ids().await.contains(&id) }).await;

    let stored = f.event_ids().await;
    assert_eq!(stored.iter().collect::<HashSet<_>>().len(), stored.len());
    assert!(acknowledged.is_subset(&stored.into_iter().collect()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_makes_callers_wait_and_loses_nothing() {
    let tight = SharedCommits::new()
        .max_queued_events(3)
        .max_queued_bytes(2048)
        .max_batch_events(2);
    let f = fixture_with(EventStore::builder().shared_commits(tight)).await;
    let appends = (0..100).map(|n| {
        f.store.append(
            format!("note-{n}"),
            ExpectedVersion::Any,
            (0..n % 6).map(note),
        )
    });
    join_all(appends)
        .await
        .into_iter()
        .for_each(|outcome| assert!(outcome.is_ok()));
    assert_eq!(
        f.event_ids().await.len(),
        (0..100).map(|n| n % 6).sum::<usize>()
    );
}
