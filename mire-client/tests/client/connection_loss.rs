//! Connections that die at the worst moment lose nothing and double nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mire_client::{AggregateRoot, EventStore, ExpectedVersion, SharedCommits};

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
    let unshared = EventStore::builder()
        .url(&f.database.url)
        .without_shared_commits();
    let unshared = unshared.build().unwrap();
    let conditional = (0..TASKS).map(|task| {
        let store = if task % 3 == 0 { &unshared } else { &f.store };
        let (store, stop) = (store.clone(), stop.clone());
        tokio::spawn(async move {
            let mut account = mire_client::AggregateRoot::<Account>::new(task);
            let mut ids = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                ids.push(account.record(deposited(1)));
                while let Err(error) = store.save(&mut account).await {
                    // Nobody else writes here, so everything but an absent database would be a mistake.
                    assert!(
                        error.is_outcome_unknown() || error.is_retryable(),
                        "{error:?}"
                    );
                    // Whatever has become of the others, one more may be recorded.
                    if ids.len() % 2 == 0 {
                        ids.push(account.record(deposited(1)));
                    }
                }
            }
            (account.version(), ids)
        })
    });
    let conditional: Vec<_> = conditional.collect();
    let anyhow_appended = (0..TASKS).map(|task| {
        let store = if task % 3 == 0 { &unshared } else { &f.store };
        let (store, stop) = (store.clone(), stop.clone());
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

    let mut saves = HashSet::new();
    for (task, outcome) in conditional.into_iter().enumerate() {
        let (version, ids) = outcome.await.unwrap();
        assert_eq!(usize::try_from(version).unwrap(), ids.len());
        saves.extend(ids);
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
    assert!(saves.iter().all(|id| stored.contains_key(id)), "lost");
    let acknowledged: HashSet<_> = acknowledged.into_iter().collect();
    let said_to_have_failed = |id: &&uuid::Uuid| {
        !saves.contains(*id) && !acknowledged.contains(*id) && !unknown.contains(*id)
    };
    assert_eq!(
        stored.keys().find(said_to_have_failed),
        None,
        "it was stored although its caller was told that it had failed"
    );
    let landed = unknown.iter().filter(|id| stored.contains_key(id)).count();
    let saves = saves.len();
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
                // The death of the old connection may not be known yet: at any version that would be an unknown outcome.
                .append(format!("other-{n}"), ExpectedVersion::NoStream, [note(n)])
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

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_landed_before_its_retry_failed_is_not_said_to_have_failed() {
    let f = fixture().await;
    let session = f.session().await;
    let name = &f.database.name;
    for shared in [true, false] {
        let (proxy, store) = behind_a_proxy(&f, shared).await;
        let mut account = AggregateRoot::<Account>::new(shared);
        account.record(deposited(1));
        let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
        session.batch_execute(&read_only).await.unwrap();
        proxy.cut(Cut::TheAnswer);
        let error = store.save(&mut account).await.unwrap_err();
        let reset = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
        session
            .batch_execute("SET default_transaction_read_only = off")
            .await
            .unwrap();
        session.batch_execute(&reset).await.unwrap();
        assert!(proxy.has_cut());
        assert_eq!(f.store.stream_version(account.stream()).await.unwrap(), 1);
        assert!(
            error.is_outcome_unknown() && !error.is_retryable(),
            "{error:?}"
        );

        // Saved again with one more it is no conflict of the aggregate with itself.
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'mire-client'";
        session.execute(kill, &[]).await.unwrap();
        account.record(deposited(2));
        let recorded = store.save(&mut account).await.unwrap();
        assert_eq!(
            (recorded.version, recorded.ids.len(), recorded.duplicate),
            (2, 2, false)
        );
        assert_eq!(
            f.store.load::<Account>(shared).await.unwrap().state().cents,
            3
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_save_that_landed_is_recognised_when_more_is_saved() {
    let f = fixture().await;
    let slow_deposits = "CREATE FUNCTION public.take_time(data jsonb) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
                  BEGIN PERFORM pg_sleep((data ->> 'cents')::float8 / 1000); RETURN 1; END $$;
                  CREATE INDEX take_time ON mire.events (public.take_time(data)) WHERE type = 'account.deposited'";
    f.session()
        .await
        .batch_execute(slow_deposits)
        .await
        .unwrap();
    for id in ["waited", "at once"] {
        let mut account = AggregateRoot::<Account>::new(id);
        account.record(deposited(600));
        let save = f.store.save(&mut account);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), save)
                .await
                .is_err()
        );
        if id == "waited" {
            super::common::eventually(|| async {
                f.store.stream_version("account-waited").await.unwrap() == 1
            })
            .await;
        }
        account.record(deposited(1));
        account.record(deposited(2));
        let recorded = f.store.save(&mut account).await.unwrap();
        assert_eq!((recorded.version, recorded.versions()), (3, 1..=3));
        assert_eq!(
            f.store.load::<Account>(id).await.unwrap().state().cents,
            603
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_unknown_commit_an_aggregate_is_saved_again_once() {
    let f = fixture().await;
    let (proxy, store) = behind_a_proxy(&f, false).await;
    for (n, cut) in [Cut::TheAnswer, Cut::AfterTheRequest]
        .into_iter()
        .enumerate()
    {
        let mut account = AggregateRoot::<Account>::new(n);
        let mut tx = store.begin().await.unwrap();
        for cents in [1, 2] {
            account.record(deposited(cents));
            tx.save(&mut account).await.unwrap();
        }
        proxy.cut(cut);
        assert!(tx.commit().await.unwrap_err().is_outcome_unknown());
        assert!(
            f.store
                .take_snapshot(&account)
                .await
                .unwrap_err()
                .is_invalid()
        );
        account.record(deposited(4));
        assert_eq!(f.store.save(&mut account).await.unwrap().version, 3);
        assert_eq!(f.store.load::<Account>(n).await.unwrap().state().cents, 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_accepts_and_says_nothing_is_not_waited_for() {
    let f = fixture().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(connection) = listener.accept().await {
            kept.push(connection);
        }
    });
    let soon = |url: String| {
        let impatient = SharedCommits::new().reconnect_timeout(Duration::from_secs(1));
        let builder = EventStore::builder().url(url).shared_commits(impatient);
        builder.build().unwrap()
    };
    let store = soon(format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1"));
    let append = store.append("note-1", ExpectedVersion::Any, [note(1)]);
    let read = store.stream_version("note-1");
    let lease = store.acquire_lease("report", "me", Duration::from_secs(1));
    let all = async { tokio::join!(append, read, lease) };
    let (append, read, lease) = tokio::time::timeout(Duration::from_secs(10), all)
        .await
        .expect("nobody waits for ever");
    for error in [append.map(drop), read.map(drop), lease.map(drop)] {
        let error = error.unwrap_err();
        assert!(
            error.is_retryable() && !error.is_outcome_unknown(),
            "{error:?}"
        );
    }

    let (name, server) = (&f.database.name, f.database.cluster().port());
    let next =
        format!("postgres://postgres@127.0.0.1:{port},127.0.0.1:{server}/{name}?connect_timeout=1");
    let store = EventStore::connect(&next)
        .await
        .expect("the next host is tried");
    store
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
}
