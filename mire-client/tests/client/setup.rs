//! Installing, and errors that say what to run.

use std::time::Duration;

use mire_client::testing::shared;
use mire_client::{ErrorKind, EventStore, ExpectedVersion, SharedCommits};

use super::common::{fixture, note, session};

#[tokio::test(flavor = "multi_thread")]
async fn migrate_installs_what_is_missing_also_when_two_do_it_at_once() {
    let f = fixture().await;
    let name = format!("{}_bare", f.database.name);
    let admin = f.session().await;
    admin
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .await
        .unwrap();
    {
        let url = shared().url(&name);
        let (one, two) = (
            EventStore::connect(&url).await.unwrap(),
            EventStore::connect(&url).await.unwrap(),
        );
        let missing = one.info().await.unwrap_err();
        assert!(
            missing.is_setup() && missing.to_string().contains("CREATE EXTENSION pg_mire"),
            "{missing}"
        );
        let missing = one
            .append("note-1", ExpectedVersion::Any, [note(1)])
            .await
            .unwrap_err();
        assert!(missing.is_setup());
        let (a, b) = tokio::join!(one.migrate(), two.migrate());
        assert_eq!(a.unwrap(), b.unwrap());
        one.append("note-1", ExpectedVersion::Any, [note(1)])
            .await
            .unwrap();
        assert_eq!(one.migrate().await.unwrap().schema_version, 1);
    }
    admin
        .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_access_is_told_whom_to_ask() {
    let f = fixture().await;
    let role = format!("{}_guest", f.database.name);
    f.session()
        .await
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .await
        .unwrap();
    let guest = EventStore::connect(&f.database.url_as(&role))
        .await
        .unwrap();
    let error = guest.migrate().await.unwrap_err();
    assert!(
        error.is_setup() && error.to_string().contains("grant_access"),
        "{error}"
    );
    let refused = guest
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap_err();
    assert!(
        refused.is_setup() && refused.sqlstate() == Some("42501"),
        "{refused:?}"
    );

    f.session()
        .await
        .execute("SELECT mire.grant_access($1, 'writer')", &[&role])
        .await
        .unwrap();
    guest.migrate().await.unwrap();
    guest
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    drop(guest);
    f.session()
        .await
        .batch_execute(&format!(
            "SELECT mire.revoke_access('{role}'); DROP OWNED BY {role}; DROP ROLE {role}"
        ))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_database_is_an_error_in_time() {
    let error = EventStore::connect("postgres://nobody@127.0.0.1:1/none")
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connection { .. }) && error.is_retryable());
    let f = fixture().await;
    f.database
        .cluster()
        .expect_in_log("database \"no_such_database\" does not exist")
        .unwrap();
    let wrong = EventStore::builder()
        .url(f.database.url.replace(&f.database.name, "no_such_database"))
        .build()
        .unwrap();
    let started = std::time::Instant::now();
    let error = wrong
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("3D000"));
    assert!(started.elapsed().as_secs() < 5, "no waiting mends that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_made_from_a_pool_as_well() {
    let f = fixture().await;
    let store = EventStore::from_pool(f.store.pool().clone());
    store
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    assert!(store.stream_exists("note-1").await.unwrap());
    let both = EventStore::builder()
        .url("postgres://h/d")
        .pool(store.pool().clone())
        .build();
    assert!(matches!(both.unwrap_err().kind(), ErrorKind::Config { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_hosts_are_tried_until_one_takes_writes() {
    let f = fixture().await;
    let port = f.database.cluster().port();
    let url = format!(
        "postgres://postgres@127.0.0.1:1,127.0.0.1:{port}/{}?target_session_attrs=read-write&sslmode=prefer",
        f.database.name
    );
    let store = EventStore::connect(&url).await.unwrap();
    store
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batcher_outlives_the_runtime_it_was_started_in() {
    let f = fixture().await;
    let store = f.store.clone();
    tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime
                .block_on(store.append("note-1", ExpectedVersion::Any, [note(1)]))
                .unwrap();
        }
    })
    .await
    .unwrap();
    assert_eq!(
        session(&f.database.url)
            .await
            .query("SELECT FROM mire.events", &[])
            .await
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_builder_does_not_show_the_password() {
    let builder = EventStore::builder().url("postgres://u:hunter2@h/d");
    let shown = format!("{builder:?} {builder:#?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_may_be_as_high_as_one_likes() {
    let limits = SharedCommits::new()
        .max_batch_events(usize::MAX)
        .max_batch_bytes(usize::MAX)
        .max_queued_events(usize::MAX)
        .max_queued_bytes(usize::MAX)
        .max_alone(usize::MAX)
        .busy_timeout(Duration::MAX)
        .reconnect_timeout(Duration::MAX);
    let builder = EventStore::builder()
        .shared_commits(limits)
        .pool_wait(Duration::MAX);
    let f = super::common::fixture_with(builder).await;
    f.store
        .append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 1);
}

#[test]
fn a_call_outside_of_a_runtime_is_an_error_and_spoils_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let f = runtime.block_on(fixture());
    let outside = std::thread::scope(|scope| {
        let append = || {
            let append = f.store.append("note-1", ExpectedVersion::Any, [note(1)]);
            futures_util::FutureExt::now_or_never(append)
        };
        scope.spawn(append).join().expect("no panic")
    });
    let error = outside.expect("at once").unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Config { .. }),
        "{error:?}"
    );
    runtime.block_on(async {
        f.store
            .append("note-1", ExpectedVersion::Any, [note(1)])
            .await
            .unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_let_one_in_is_not_worth_another_try() {
    let f = fixture().await;
    let url = f.database.url.replace(&f.database.name, "no_such_database");
    let store = EventStore::builder().url(url).build().unwrap();
    let append = store.append("note-1", ExpectedVersion::Any, [note(1)]);
    for error in [
        append.await.map(drop),
        store.stream_version("note-1").await.map(drop),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.sqlstate(), Some("3D000"));
        assert!(
            !error.is_retryable() && !error.is_outcome_unknown(),
            "{error:?}"
        );
    }
}
