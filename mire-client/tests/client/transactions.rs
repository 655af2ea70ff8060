//! Several aggregates and the program's own SQL: together or not at all.

use std::time::Duration;

use mire_client::{AggregateRoot, ExpectedVersion};

use super::common::{Account, account_of, deposited, exactly, fixture, fixture_with, note};

#[tokio::test(flavor = "multi_thread")]
async fn two_aggregates_and_a_table_change_together() {
    let f = fixture().await;
    f.session()
        .await
        .batch_execute("CREATE TABLE report (n bigint)")
        .await
        .unwrap();
    for commit in [true, false] {
        let mut tx = f.store.begin().await.unwrap();
        let mut a = tx.load_or_default::<Account>("a").await.unwrap();
        let mut b = tx.load_or_default::<Account>("b").await.unwrap();
        a.record(deposited(1));
        b.record(deposited(2));
        tx.save(&mut a).await.unwrap();
        tx.save(&mut b).await.unwrap();
        tx.append("note-1", ExpectedVersion::Any, [note(1)])
            .await
            .unwrap();
        tx.sql()
            .execute("INSERT INTO report VALUES (1)", &[])
            .await
            .unwrap();
        assert_eq!(
            tx.load::<Account>("a").await.unwrap().version(),
            a.version(),
            "it sees its own"
        );
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!(f.event_ids().await.len(), 3);
        assert_eq!(f.number("SELECT count(*) FROM report").await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_it_rolls_back_and_its_connection_is_fit_for_the_next() {
    let f = super::common::fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    drop(tx);
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 0);
    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_does_not_pretend_to_commit() {
    let f = super::common::fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.append("note-1", ExpectedVersion::Any, [note(1)])
        .await
        .unwrap();
    assert!(
        tx.append("note-1", exactly(7), [note(2)])
            .await
            .unwrap_err()
            .is_conflict()
    );
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("25P02"));
    assert_eq!(f.store.stream_version("note-1").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_aggregate_is_nobody_elses_until_the_end() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    assert!(
        f.store
            .begin()
            .await
            .unwrap()
            .load_locked::<Account>("2")
            .await
            .unwrap_err()
            .is_not_found()
    );

    let mut tx = f.store.begin().await.unwrap();
    let mut locked = tx.load_locked::<Account>("1").await.unwrap();
    let mut other = f.store.load::<Account>("1").await.unwrap();
    other.record(deposited(100));
    let store = f.store.clone();
    let blocked = tokio::spawn(async move { store.save(&mut other).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!blocked.is_finished());
    locked.record(deposited(1));
    tx.save(&mut locked).await.unwrap();
    tx.commit().await.unwrap();
    assert!(blocked.await.unwrap().unwrap_err().is_conflict());
    assert_eq!(f.store.load::<Account>("1").await.unwrap().state().cents, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lockers_of_one_aggregate_take_turns_and_lose_nothing() {
    let f = fixture().await;
    account_of(&f.store, "1", 1).await;
    let transfers = (0..20).map(|_| async {
        let mut tx = f.store.begin().await.unwrap();
        let mut account = tx.load_locked::<Account>("1").await.unwrap();
        account.record(deposited(1));
        tx.save(&mut account).await.unwrap();
        tx.commit().await.unwrap();
    });
    futures_util::future::join_all(transfers).await;
    assert_eq!(
        f.store.load::<Account>("1").await.unwrap().state().cents,
        21
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_is_pending_again_and_no_snapshot_is_taken_of_it() {
    let f = fixture().await;
    for (n, dropped) in [true, false].into_iter().enumerate() {
        let mut account = AggregateRoot::<Account>::new(n);
        account.record(deposited(1_000_000));
        let mut tx = f.store.begin().await.unwrap();
        assert_eq!(tx.save(&mut account).await.unwrap().version, 1);
        assert_eq!((account.version(), account.pending().len()), (1, 0));
        account.record(deposited(5));
        assert_eq!(tx.save(&mut account).await.unwrap().version, 2);
        // Neither saved elsewhere nor kept as a snapshot before it is known to be true.
        assert!(f.store.save(&mut account).await.unwrap_err().is_invalid());
        let mut other = f.store.begin().await.unwrap();
        assert!(other.save(&mut account).await.unwrap_err().is_invalid());
        drop(other);
        assert!(
            f.store
                .take_snapshot(&account)
                .await
                .unwrap_err()
                .is_invalid()
        );
        if dropped {
            drop(tx);
        } else {
            tx.rollback().await.unwrap();
        }
        assert_eq!((account.version(), account.pending().len()), (0, 2));

        // Somebody else brings the stream to the very version that was rolled back.
        account_of(&f.store, &n.to_string(), 2).await;
        assert!(
            f.store
                .take_snapshot(&account)
                .await
                .unwrap_err()
                .is_invalid()
        );
        assert!(f.store.save(&mut account).await.unwrap_err().is_conflict());
        let loaded = f.store.load_snapshotted::<Account>(n).await.unwrap();
        assert_eq!(loaded.state().cents, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rolled_back_can_be_saved_again() {
    let f = fixture().await;
    let mut account = AggregateRoot::<Account>::new(1);
    account.record(deposited(1));
    let mut tx = f.store.begin().await.unwrap();
    tx.save(&mut account).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    tx.save(&mut account).await.unwrap();
    drop(tx);
    assert_eq!(f.store.save(&mut account).await.unwrap().version, 1);
    assert_eq!(f.event_ids().await.len(), 1);

    account.record(deposited(1));
    let mut tx = f.store.begin().await.unwrap();
    tx.save(&mut account).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((account.version(), account.pending().len()), (2, 0));
    assert!(f.store.take_snapshot(&account).await.unwrap());
    account.record(deposited(1));
    assert_eq!(f.store.save(&mut account).await.unwrap().version, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_dropped_call_a_transaction_commits_nothing_and_its_connection_is_nobody_elses() {
    let f = fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    account_of(&f.store, "1", 1).await;
    let mut sitter = f.session().await;
    for ended_by_commit in [true, false] {
        let sitting = sitter.transaction().await.unwrap();
        let append = "SELECT FROM mire.append('account-1', '[{\"type\": \"account.closed\", \"data\": null}]'::jsonb)";
        sitting.execute(append, &[]).await.unwrap();
        let tx = f.store.begin().await.unwrap();
        let locked = tx.load_locked::<Account>("1");
        let given_up = tokio::time::timeout(Duration::from_millis(200), locked).await;
        assert!(given_up.is_err());
        if ended_by_commit {
            assert!(tx.commit().await.unwrap_err().is_invalid());
        } else {
            drop(tx);
        }
        let unrelated = f.store.stream_version("whatever");
        tokio::time::timeout(Duration::from_secs(5), unrelated)
            .await
            .expect("it does not wait behind the dropped call")
            .unwrap();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock'";
        super::common::eventually(|| async { f.number(waiting).await == 0 }).await;
        sitting.rollback().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_the_programs_own_that_was_dropped_does_not_block_the_pool() {
    let f = fixture_with(mire_client::EventStore::builder().pool_size(1)).await;
    let tx = f.store.begin().await.unwrap();
    let query = tx.sql().batch_execute("SELECT pg_sleep(60)");
    assert!(
        tokio::time::timeout(Duration::from_millis(100), query)
            .await
            .is_err()
    );
    drop(tx);
    let unrelated = f.store.stream_version("whatever");
    tokio::time::timeout(Duration::from_secs(10), unrelated)
        .await
        .expect("it does not wait behind the dropped query")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_connection_has_died_is_known_not_to_have_committed() {
    let f = fixture().await;
    let mut account = AggregateRoot::<Account>::new(1);
    account.record(deposited(1));
    let mut tx = f.store.begin().await.unwrap();
    tx.save(&mut account).await.unwrap();
    let impatient = "SET LOCAL idle_in_transaction_session_timeout = '100ms'";
    tx.sql().batch_execute(impatient).await.unwrap();
    while !tx.sql().is_closed() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = tx.commit().await.unwrap_err();
    assert!(
        error.is_retryable() && !error.is_outcome_unknown(),
        "{error:?}"
    );
    assert_eq!(f.store.save(&mut account).await.unwrap().version, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_statements_come_in_order_and_are_committed_all_or_none() {
    for unnamed in [false, true] {
        let mut builder = mire_client::EventStore::builder().pool_size(1);
        if unnamed {
            builder = builder.statements(mire_client::Statements::Unnamed);
        }
        let f = fixture_with(builder).await;
        let table = "CREATE TABLE report (n bigint CHECK (n < 1000), note text)";
        f.session().await.batch_execute(table).await.unwrap();
        let insert = "INSERT INTO report VALUES ($1, $2)";
        let mut tx = f.store.begin().await.unwrap();
        for n in 0..999_i64 {
            let note = (n % 2 == 0).then(|| n.to_string());
            tx.queue(insert, &[&n, &note]).await.unwrap();
        }
        let changed = tx
            .execute("UPDATE report SET n = n + 1", &[])
            .await
            .unwrap();
        assert_eq!(changed, 999, "it sees what was queued before");
        tx.commit().await.unwrap();
        assert_eq!(f.number("SELECT sum(n)::bigint FROM report").await, 499_500);
        assert_eq!(f.number("SELECT count(note) FROM report").await, 500);

        // The first error is told, whoever asks; nothing is left, and the connection is fit for the next.
        let mut tx = f.store.begin().await.unwrap();
        let mut failed = None;
        for n in [1, 2000, 3_i64] {
            failed = failed.or(tx.queue(insert, &[&n, &"x"]).await.err());
        }
        failed = failed.or(tx.flush().await.err());
        let code = failed.as_ref().and_then(|e| e.code()).map(|c| c.code());
        assert_eq!(code, Some("23514"));
        assert!(tx.commit().await.is_err());
        let mut tx = f.store.begin().await.unwrap();
        assert!(tx.queue(insert, &[&"no number", &"x"]).await.is_err());
        tx.rollback().await.unwrap();
        let mut tx = f.store.begin().await.unwrap();
        tx.queue(insert, &[&1_i64, &"dropped"]).await.unwrap();
        drop(tx);
        let mut tx = f.store.begin().await.unwrap();
        tx.queue(insert, &[&1_i64, &"kept"]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(f.number("SELECT count(*) FROM report").await, 1_000);

        // Statements in turns, on a table that was queued itself, with values larger than what travels together; and SQL of
        // the program's own sees them all.
        let mut tx = f.store.begin().await.unwrap();
        tx.queue("CREATE TABLE notes (n bigint, note text)", &[])
            .await
            .unwrap();
        let large = "x".repeat(40_000);
        for n in 0..10_i64 {
            tx.queue("INSERT INTO notes VALUES ($1, $2)", &[&n, &large])
                .await
                .unwrap();
            tx.queue("UPDATE notes SET n = n + 1", &[]).await.unwrap();
        }
        let row = tx.sql().query_one("SELECT sum(n)::bigint FROM notes", &[]);
        assert_eq!(row.await.unwrap().get::<_, i64>(0), 100);
        tx.queue("DELETE FROM notes", &[]).await.unwrap();
        tx.rollback().await.unwrap();
        let left = "SELECT count(*) FROM pg_class WHERE relname = 'notes'";
        assert_eq!(f.number(left).await, 0);
    }
}
