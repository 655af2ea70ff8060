//! A transaction that sits on a stream delays the appends to that stream, and nothing else.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mire_client::{EventStore, ExpectedVersion, SharedCommits, sqlstate};

use super::common::{
    Fixture, exactly, fixture, fixture_with, note, poison, slow, with_slow_events,
};

/// A transaction of somebody else's that has appended to a stream and stays open.
async fn sit_on(f: &Fixture, stream: &str) -> tokio_postgres::Client {
    let session = f.session().await;
    session.batch_execute("BEGIN").await.unwrap();
    let append = "SELECT FROM mire.append($1, '[{\"type\": \"note.taken\", \"data\": {\"number\": 0}}]'::jsonb)";
    session.execute(append, &[&stream]).await.unwrap();
    session
}

async fn others_get_through(f: &Fixture, count: usize) {
    let appends = (0..count).map(|n| {
        f.store
            .append(format!("other-{n}"), ExpectedVersion::Any, [note(n)])
    });
    let all = tokio::time::timeout(Duration::from_secs(5), join_all(appends))
        .await
        .expect("nobody is held up");
    assert!(all.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sitter_delays_only_its_own_stream_existing_or_just_being_created() {
    for existing in [true, false] {
        let f = fixture().await;
        if existing {
            f.store
                .append("note-1", ExpectedVersion::Any, [note(1)])
                .await
                .unwrap();
        }
        let sitter = sit_on(&f, "note-1").await;
        let delayed: Vec<_> = (0..20)
            .map(|n| {
                let store = f.store.clone();
                tokio::spawn(async move {
                    store
                        .append("note-1", ExpectedVersion::Any, [note(n)])
                        .await
                })
            })
            .collect();
        for _ in 0..5 {
            others_get_through(&f, 50).await;
        }
        assert!(delayed.iter().all(|task| !task.is_finished()));
        sitter.batch_execute("COMMIT").await.unwrap();
        for task in delayed {
            task.await.unwrap().unwrap();
        }
        assert_eq!(
            f.store.stream_version("note-1").await.unwrap(),
            21 + i64::from(existing)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_sitter_rolls_back_a_conditional_append_succeeds_and_otherwise_conflicts() {
    let f = fixture().await;
    for (stream, ends) in [("note-1", "ROLLBACK"), ("note-2", "COMMIT")] {
        let sitter = sit_on(&f, stream).await;
        let store = f.store.clone();
        let append = tokio::spawn(async move {
            store
                .append(stream, ExpectedVersion::NoStream, [note(1)])
                .await
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!append.is_finished());
        sitter.batch_execute(ends).await.unwrap();
        let outcome = append.await.unwrap();
        match ends {
            "ROLLBACK" => assert_eq!(outcome.unwrap().version, 1),
            _ => assert!(outcome.unwrap_err().is_conflict()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sitters_than_may_be_waited_for_take_turns() {
    let f =
        fixture_with(EventStore::builder().shared_commits(SharedCommits::new().max_alone(2))).await;
    let mut sitters = Vec::new();
    for n in 0..6 {
        sitters.push(sit_on(&f, &format!("note-{n}")).await);
    }
    let delayed: Vec<_> = (0..6)
        .map(|n| {
            let store = f.store.clone();
            tokio::spawn(async move {
                store
                    .append(format!("note-{n}"), ExpectedVersion::Any, [note(n)])
                    .await
            })
        })
        .collect();
    others_get_through(&f, 50).await;
    // The last one is free first; its turn comes although the others still sit.
    sitters
        .pop()
        .unwrap()
        .batch_execute("ROLLBACK")
        .await
        .unwrap();
    let mut delayed = delayed.into_iter().rev();
    let last = tokio::time::timeout(Duration::from_secs(15), delayed.next().unwrap())
        .await
        .expect("its turn comes");
    last.unwrap().unwrap();
    for sitter in sitters {
        sitter.batch_execute("ROLLBACK").await.unwrap();
    }
    for task in delayed {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_too_long_is_told_and_has_written_nothing() {
    let impatient = SharedCommits::new().busy_timeout(Duration::from_millis(400));
    let f = fixture_with(EventStore::builder().shared_commits(impatient)).await;
    let sitter = sit_on(&f, "note-1").await;
    let started = Instant::now();
    let appends = (0..3).map(|n| f.store.append("note-1", ExpectedVersion::Any, [note(n)]));
    for outcome in join_all(appends).await {
        let error = outcome.unwrap_err();
        assert!(error.is_busy() && error.is_retryable(), "{error:?}");
        assert_eq!(error.sqlstate(), Some(sqlstate::LOCK_NOT_AVAILABLE));
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    sitter.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(
        f.store
            .append("note-1", ExpectedVersion::Any, [note(1)])
            .await
            .unwrap()
            .version,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_behind_a_sitter_is_withdrawn_and_the_others_keep_their_order() {
    let f = fixture().await;
    let sitter = sit_on(&f, "note-1").await;
    let mut tasks = Vec::new();
    for n in 1..=4 {
        let store = f.store.clone();
        tasks.push(tokio::spawn(async move {
            store
                .append("note-1", ExpectedVersion::Any, [note(n)])
                .await
        }));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tasks.remove(2).abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    sitter.batch_execute("ROLLBACK").await.unwrap();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let rows = f
        .session()
        .await
        .query(
            "SELECT (data ->> 'number')::bigint FROM mire.events ORDER BY version",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row.get::<_, i64>(0))
            .collect::<Vec<_>>(),
        [1, 2, 4]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_behind_a_sitter_do_not_fill_the_queue() {
    let small = SharedCommits::new().max_queued_events(10);
    let f = fixture_with(EventStore::builder().shared_commits(small)).await;
    let sitter = sit_on(&f, "note-1").await;
    let delayed: Vec<_> = (0..50)
        .map(|n| {
            let store = f.store.clone();
            tokio::spawn(async move {
                store
                    .append("note-1", ExpectedVersion::Any, [note(n)])
                    .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    others_get_through(&f, 30).await;
    sitter.batch_execute("ROLLBACK").await.unwrap();
    for task in delayed {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_halved_keeps_the_order_of_a_stream_that_was_busy_in_its_first_half() {
    let f = fixture().await;
    with_slow_events(&f).await;
    let sitter = sit_on(&f, "note-1").await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        sitter.batch_execute("ROLLBACK").await.unwrap();
    };
    // All are polled before the driver runs: one batch. The first half goes while somebody sits on the stream, the
    // second when it is free.
    let (first, slow, poisoned, second, ()) = tokio::join!(
        f.store.append("note-1", exactly(0), [note(1)]),
        f.store.append("slow-1", ExpectedVersion::Any, [slow(1.0)]),
        f.store.append("bad-1", ExpectedVersion::Any, [poison()]),
        f.store.append("note-1", exactly(1), [note(2)]),
        release
    );
    assert_eq!((first.unwrap().version, second.unwrap().version), (1, 2));
    slow.unwrap();
    poisoned.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_behind_one_that_waits_for_a_stream_to_be_created_wait_too() {
    let f = fixture().await;
    let sitter = sit_on(&f, "note-1").await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        sitter.batch_execute("ROLLBACK").await.unwrap();
    };
    let (created, exact, existing, ()) = tokio::join!(
        f.store
            .append("note-1", ExpectedVersion::NoStream, [note(1)]),
        f.store.append("note-1", exactly(1), [note(2)]),
        f.store.append("note-1", ExpectedVersion::Exists, [note(3)]),
        release
    );
    let versions = [created, exact, existing].map(|outcome| outcome.unwrap().version);
    assert_eq!(versions, [1, 2, 3]);
}

// One thread: who is woken does not run at once.
#[tokio::test]
async fn a_full_queue_is_left_in_the_order_of_arrival() {
    let small = SharedCommits::new().max_queued_events(2);
    let f = fixture_with(EventStore::builder().shared_commits(small)).await;
    with_slow_events(&f).await;
    let (store, first_store) = (f.store.clone(), f.store.clone());
    let later = tokio::spawn(async move {
        let filling = [slow(0.4), slow(0.0)];
        store
            .append("slow-1", ExpectedVersion::Any, filling)
            .await
            .unwrap();
        // The other is woken by now, and has not run yet.
        store
            .append("note-1", ExpectedVersion::Any, [note(2)])
            .await
            .unwrap()
            .version
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let earlier = tokio::spawn(async move {
        let append = first_store.append("note-1", ExpectedVersion::Any, [note(1)]);
        append.await.unwrap().version
    });
    assert_eq!((earlier.await.unwrap(), later.await.unwrap()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_free_again_does_not_wait_for_those_that_are_not() {
    const HELD: usize = 30;
    let f =
        fixture_with(EventStore::builder().shared_commits(SharedCommits::new().max_alone(2))).await;
    let sitter = f.session().await;
    sitter.batch_execute("BEGIN").await.unwrap();
    for n in 0..HELD {
        let append =
            "SELECT FROM mire.append($1, '[{\"type\": \"note.taken\", \"data\": {}}]'::jsonb)";
        sitter
            .execute(append, &[&format!("held-{n}")])
            .await
            .unwrap();
    }
    let held: Vec<_> = (0..HELD)
        .map(|n| {
            let store = f.store.clone();
            tokio::spawn(async move {
                store
                    .append(format!("held-{n}"), ExpectedVersion::Any, [note(n)])
                    .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let passing = sit_on(&f, "note-1").await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        passing.batch_execute("ROLLBACK").await.unwrap();
        Instant::now()
    };
    let append = f.store.append("note-1", ExpectedVersion::Any, [note(1)]);
    let append = async { append.await.map(|_| Instant::now()) };
    let (released, appended) = tokio::join!(release, append);
    // A round of turns takes 15 s.
    assert!(appended.unwrap() - released < Duration::from_secs(3));
    assert!(held.iter().all(|task| !task.is_finished()));
    sitter.batch_execute("ROLLBACK").await.unwrap();
    for task in held {
        task.await.unwrap().unwrap();
    }
}
