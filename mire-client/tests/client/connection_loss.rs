//! Connections that die at the worst moment lose nothing and double nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mire_client::{EventStore, ExpectedVersion};

use super::common::{Account, Fixture, deposited, exactly, fixture, note};
use super::proxy::{Cut, Proxy};

async fn behind_a_proxy(f: &Fixture, shared: bool) -> (Proxy, EventStore) {
    let proxy = Proxy::before(f.database.cluster().port()).await;
    let builder = EventStore::builder().url(proxy.url(&f.database.name));
    let builder = if shared {
        builder
    } else {
        builder.without_shared_commits()
    };
    let store = builder.build().unwrap();
    // Connects and prepares, so that the next exchange is the append itself.
    store
        .append("warm-up", ExpectedVersion::Any, [note(0)])
        .await
        .unwrap();
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_whose_answer_was_lost_is_retried_and_stored_once() {
    let f = fixture().await;
    for shared in [true, false] {
        let (proxy, store) = behind_a_proxy(&f, shared).await;
        for cut in [Cut::TheAnswer, Cut::AfterTheRequest] {
            let id = uuid::Uuid::now_v7();
            let mut account = mire_client::AggregateRoot::<Account>::new(id);
            account.record_many([deposited(1), deposited(2)]);
            proxy.cut(cut);
            let recorded = store.save(&mut account).await.unwrap();
            assert!(proxy.has_cut());
            assert_eq!((recorded.version, account.version()), (2, 2));
            if let Cut::TheAnswer = cut {
                assert!(recorded.duplicate, "it had been committed");
            }
            account.record(deposited(3));
            assert_eq!(store.save(&mut account).await.unwrap().version, 3);
            assert_eq!(f.store.load::<Account>(id).await.unwrap().state().cents, 6);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_retry_would_not_be_sound_the_outcome_is_reported_as_unknown() {
    let f = fixture().await;
    for shared in [true, false] {
        let (proxy, store) = behind_a_proxy(&f, shared).await;
        for expected in [ExpectedVersion::Any, ExpectedVersion::Exists] {
            let stream = format!("note-{}", uuid::Uuid::now_v7());
            store
                .append(&stream, ExpectedVersion::NoStream, [note(0)])
                .await
                .unwrap();
            let event = note(1);
            let id = event.id();
            proxy.cut(Cut::TheAnswer);
            let error = store.append(&stream, expected, [event]).await.unwrap_err();
            assert!(
                error.is_outcome_unknown() && !error.is_retryable(),
                "{error:?}"
            );
            assert_eq!(
                store.find_recorded(&stream, id, 100).await.unwrap(),
                Some(2)
            );
            assert_eq!(
                store
                    .find_recorded(&stream, uuid::Uuid::now_v7(), 100)
                    .await
                    .unwrap(),
                None
            );
            assert_eq!(
                store
                    .append(&stream, exactly(2), [note(2)])
                    .await
                    .unwrap()
                    .version,
                3
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_commit_was_lost_is_unknown_and_before_that_it_is_not() {
    let f = fixture().await;
    let (proxy, store) = behind_a_proxy(&f, false).await;
    let mut tx = store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    proxy.cut(Cut::TheAnswer);
    assert!(tx.commit().await.unwrap_err().is_outcome_unknown());
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 1);

    let mut tx = store.begin().await.unwrap();
    proxy.cut(Cut::TheAnswer);
    let error = tx
        .append("note-1", ExpectedVersion::Any, [note(2)])
        .await
        .unwrap_err();
    assert!(
        error.is_retryable() && !error.is_outcome_unknown(),
        "{error:?}"
    );
    drop(tx);
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 1);
}

/// Kills this database's client connections again and again.
fn killer(
    f: &Fixture,
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<()> {
    let url = f.database.url.clone();
    tokio::spawn(async move {
        let session = super::common::session(&url).await;
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'mire-client'";
        while !stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(120)).await;
            kills.fetch_add(
                session.query(kill, &[]).await.unwrap().len(),
                Ordering::SeqCst,
            );
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn chaos_killed_connections_lose_nothing_and_double_nothing() {
    const TASKS: usize = 48;
    let f = fixture().await;
    let (stop, kills) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let killer = killer(&f, stop.clone(), kills.clone());
    let conditional = (0..TASKS).map(|task| {
        let (store, stop) = (f.store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut account = mire_client::AggregateRoot::<Account>::new(task);
            while !stop.load(Ordering::SeqCst) {
                account.record(deposited(1));
                while let Err(error) = store.save(&mut account).await {
                    // Nobody else writes here, so everything but an absent database would be a mistake.
                    assert!(
                        error.is_outcome_unknown() || error.is_retryable(),
                        "{error:?}"
                    );
                }
            }
            account.version()
        })
    });
    let conditional: Vec<_> = conditional.collect();
    let anyhow_appended = (0..TASKS).map(|task| {
        let (store, stop) = (f.store.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
            while !stop.load(Ordering::SeqCst) {
                let event = note(task);
                let id = event.id();
                match store
                    .append(format!("note-{}", task % 5), ExpectedVersion::Any, [event])
                    .await
                {
                    Ok(_) => acknowledged.push(id),
                    Err(error) if error.is_outcome_unknown() => unknown.push(id),
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
            }
            (acknowledged, unknown)
        })
    });
    let anyhow_appended: Vec<_> = anyhow_appended.collect();

    tokio::time::sleep(Duration::from_secs(6)).await;
    stop.store(true, Ordering::SeqCst);
    killer.await.unwrap();

    let mut saves = 0;
    for (task, outcome) in conditional.into_iter().enumerate() {
        let version = outcome.await.unwrap();
        saves += version;
        let account = f.store.load::<Account>(task).await.unwrap();
        assert_eq!(
            (account.version(), account.state().cents),
            (version, version)
        );
    }
    let (mut acknowledged, mut unknown) = (Vec::new(), HashSet::new());
    for outcome in anyhow_appended {
        let (known, not) = outcome.await.unwrap();
        acknowledged.extend(known);
        unknown.extend(not);
    }
    let mut stored: HashMap<uuid::Uuid, usize> = HashMap::new();
    for id in f.event_ids().await {
        *stored.entry(id).or_default() += 1;
    }
    assert!(stored.values().all(|&times| times == 1), "doubled");
    assert!(
        acknowledged.iter().all(|id| stored.contains_key(id)),
        "lost"
    );
    let appended = stored.len() - usize::try_from(saves).unwrap();
    let landed = appended - acknowledged.len();
    assert!(
        landed <= unknown.len(),
        "something was stored that its caller was told had failed"
    );
    let kills = kills.load(Ordering::SeqCst);
    println!(
        "{kills} connections killed, {saves} saves, {} appends, {} unknown of which {landed} landed",
        acknowledged.len(),
        unknown.len()
    );
    assert!(kills >= 20 && saves > 100 && acknowledged.len() > 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_takes_no_writes_for_a_while_is_waited_for() {
    let f = fixture().await;
    f.store
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    let session = f.session().await;
    let name = &f.database.name;
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    session.batch_execute(&read_only).await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'mire-client'";
    session.execute(kill, &[]).await.unwrap();
    let appends = (0..20).map(|n| {
        let store = f.store.clone();
        tokio::spawn(async move {
            store
                .append(format!("note-{n}"), ExpectedVersion::Any, [note(n)])
                .await
        })
    });
    let appends: Vec<_> = appends.collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
    session.batch_execute(&reset).await.unwrap();
    for append in appends {
        append.await.unwrap().unwrap();
    }
}
