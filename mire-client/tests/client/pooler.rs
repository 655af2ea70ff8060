//! Behind PgBouncer in transaction mode: no statement has a name, and everything works.

use std::time::Duration;

use mire_client::testing::PoolMode;
use mire_client::{EventStore, ExpectedVersion, ReadAll, Statements};

use super::common::{Account, deposited, exactly, fixture, note};

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler_in_transaction_mode() {
    let f = fixture().await;
    let bouncer = f
        .database
        .cluster()
        .pgbouncer(PoolMode::Transaction)
        .unwrap();
    for statements in [Statements::Detect, Statements::Unnamed] {
        let builder = || {
            EventStore::builder()
                .url(bouncer.url(&f.database.name))
                .statements(statements)
        };
        // Several clients with several connections: their statements meet on the pooler's few.
        let stores: Vec<_> = (0..4)
            .map(|_| builder().pool_size(4).build().unwrap())
            .collect();
        stores[0].migrate().await.unwrap();
        let work = (0..32).map(|task| {
            let store = stores[task % stores.len()].clone();
            let id = format!("{statements:?}{task}");
            async move {
                for n in 0..5 {
                    let mut account = store
                        .load_or_default_snapshotted::<Account>(&id)
                        .await
                        .unwrap();
                    account.record(deposited(n));
                    store.save_snapshotted(&mut account).await.unwrap();
                    store
                        .append(
                            format!("note-{id}"),
                            exactly(usize::try_from(n).unwrap()),
                            [note(1)],
                        )
                        .await
                        .unwrap();
                    store
                        .read_page(&ReadAll::new().page_size(10))
                        .await
                        .unwrap();
                    let mut tx = store.begin().await.unwrap();
                    tx.append(format!("memo-{id}"), ExpectedVersion::Any, [note(1)])
                        .await
                        .unwrap();
                    tx.commit().await.unwrap();
                }
                assert_eq!(store.load::<Account>(&id).await.unwrap().version(), 5);
            }
        });
        futures_util::future::join_all(work).await;
        let at = stores[0].safe_position().await.unwrap();
        assert!(
            stores[0]
                .wait_for_events(at - 1, Duration::from_secs(5))
                .await
                .unwrap()
                .position
                >= at
        );
        let lease = stores[0]
            .acquire_lease("bounced", "one", Duration::from_secs(5))
            .await
            .unwrap()
            .unwrap();
        let mut tx = stores[1].begin().await.unwrap();
        tx.assert_lease(&lease).await.unwrap();
        tx.commit().await.unwrap();
        lease.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_get_names_on_a_direct_connection_only() {
    let f = fixture().await;
    let bouncer = f
        .database
        .cluster()
        .pgbouncer(PoolMode::Transaction)
        .unwrap();
    for (url, named) in [
        (f.database.url.clone(), true),
        (bouncer.url(&f.database.name), false),
    ] {
        let store = EventStore::builder().url(url).pool_size(1).build().unwrap();
        for _ in 0..2 {
            store.stream_version("note-1").await.unwrap();
        }
        let client = store.pool().get().await.unwrap();
        let count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%mire.%'";
        let rows = client.query_typed(count, &[]).await.unwrap();
        assert_eq!(rows[0].get::<_, i64>(0) > 0, named);
    }
}
