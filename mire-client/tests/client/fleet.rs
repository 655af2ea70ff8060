//! Replicas share partitions, hand them over, and cost nothing while there is nothing to do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mire_client::testing::PoolMode;
use mire_client::{EventStore, ProjectionRunner, Transactional};

use super::common::{Fixture, account_of, fixture};
use super::read_models::{Balances, balances, caught_up, run, until, with_balances};

/// How many partitions each runner holds.
async fn holders(f: &Fixture) -> BTreeMap<String, usize> {
    let mut held = BTreeMap::new();
    for partition in f.store.subscription_status("balances").await.unwrap() {
        if let Some(holder) = partition.holder {
            *held.entry(holder).or_default() += 1;
        }
    }
    held
}

async fn spread(f: &Fixture, expected: &[usize]) {
    until(&format!("spread {expected:?}"), || async {
        let mut spread: Vec<_> = holders(f).await.into_values().collect();
        spread.sort_unstable();
        spread == expected
    })
    .await;
}

async fn sum(f: &Fixture) -> i64 {
    f.number("SELECT coalesce(sum(cents), 0)::bigint FROM balances")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_spread_evenly_as_replicas_come_and_go() {
    let f = fixture().await;
    with_balances(&f).await;
    let replica = || run(&f.store, balances().partitions(8), Balances::default());
    let first = replica().await;
    spread(&f, &[8]).await;
    let second = replica().await;
    spread(&f, &[4, 4]).await;
    let third = replica().await;
    spread(&f, &[2, 3, 3]).await;
    for id in 0..30 {
        account_of(&f.store, &id.to_string(), 3).await;
    }
    caught_up(&f.store, "balances").await;
    assert_eq!(sum(&f).await, 90);

    // Leaving hands over at once: long before the ttl, which a crash has to wait for.
    let started = Instant::now();
    first.shutdown().await.unwrap();
    spread(&f, &[4, 4]).await;
    assert!(
        started.elapsed() < Duration::from_millis(1_500),
        "{:?}",
        started.elapsed()
    );
    let crashed = second.holder().to_owned();
    second.abort();
    spread(&f, &[8]).await;
    assert!(!holders(&f).await.contains_key(&crashed));
    for id in 0..30 {
        account_of(&f.store, &id.to_string(), 1).await;
    }
    caught_up(&f.store, "balances").await;
    assert_eq!(sum(&f).await, 120);
    third.shutdown().await.unwrap();
    assert!(holders(&f).await.is_empty());
    assert_eq!(f.number("SELECT count(*) FROM mire.leases WHERE starts_with(resource, '$worker/') AND expires_at > clock_timestamp()").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_begins_on_the_pools_idle_connection_and_leaves_the_pool_its_room() {
    let f = fixture().await;
    with_balances(&f).await;
    let url = &f.database.url;
    let store = EventStore::builder().url(url).pool_size(1);
    let store = store.build().unwrap();
    let backend = async |store: &EventStore| {
        let session = store.pool().get().await.unwrap();
        let row = session.query_one("SELECT pg_backend_pid()", &[]).await;
        row.unwrap().get::<_, i32>(0)
    };
    let idle = backend(&store).await;
    let runner = run(&store, balances(), Balances::default()).await;
    spread(&f, &[1]).await;
    assert_ne!(backend(&store).await, idle, "the pool still has it");
    let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {idle}");
    assert_eq!(f.number(&alive).await, 1, "it was closed");
    account_of(&store, "a", 3).await;
    caught_up(&f.store, "balances").await;
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_partitions_leave_some_in_reserve() {
    let f = fixture().await;
    with_balances(&f).await;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(run(&f.store, balances().partitions(2), Balances::default()).await);
    }
    spread(&f, &[1, 1]).await;
    // Who holds what settles when all have seen each other.
    let mut at_work = holders(&f).await;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = holders(&f).await;
        if now == at_work && now.len() == 2 {
            break;
        }
        at_work = now;
    }
    let (gone, reserve): (Vec<_>, Vec<_>) = replicas
        .into_iter()
        .partition(|r| at_work.contains_key(r.holder()));
    for replica in gone {
        replica.abort();
    }
    until("the reserve has taken over", || async {
        let held = holders(&f).await;
        held.len() == 2 && reserve.iter().all(|r| held.contains_key(r.holder()))
    })
    .await;
    account_of(&f.store, "1", 5).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(sum(&f).await, 5);
    for replica in reserve {
        replica.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_partitions_changes_under_running_workers() {
    let f = fixture().await;
    with_balances(&f).await;
    let runner = run(&f.store, balances().partitions(2), Balances::default()).await;
    let alter = "SELECT mire.alter_subscription('balances', ARRAY['account'], NULL, 5)";
    for round in 0..20 {
        for id in 0..5 {
            account_of(&f.store, &id.to_string(), 1).await;
        }
        if round == 10 {
            f.session().await.batch_execute(alter).await.unwrap();
        }
    }
    spread(&f, &[5]).await;
    caught_up(&f.store, "balances").await;
    assert_eq!(sum(&f).await, 100);
    runner.shutdown().await.unwrap();
}

/// Transactions of this database so far.
async fn transactions(session: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    session.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn idling_costs_one_question_per_recheck_and_news_come_in_milliseconds() {
    let f = fixture().await;
    with_balances(&f).await;
    let mut builder = ProjectionRunner::builder(f.store.clone())
        .subscribe(balances().partitions(4), Transactional(Balances::default()));
    // Fifty others, which the news do not concern.
    for n in 0..50 {
        let idle = mire_client::Subscription::new(format!("idle{n}")).categories(["nothing"]);
        builder = builder.subscribe(idle, Transactional(Balances::default()));
    }
    let runner = builder.spawn().await.unwrap();
    account_of(&f.store, "1", 1).await;
    caught_up(&f.store, "balances").await;
    until("all are held", || async {
        f.number("SELECT count(*) FROM mire.subscription_status WHERE holder IS NOT NULL")
            .await
            == 54
    })
    .await;
    let session = f.session().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = transactions(&session).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = transactions(&session).await - before;
    // One look a second, this measuring itself, what the server does on its own, and on 15 what it counts late. Polling
    // once a second for each of 54 partitions would be 270.
    assert!(spent < 90, "{spent} transactions in 5 s with nothing to do");

    let mut latencies = Vec::new();
    for _ in 0..50 {
        let recorded = {
            let mut account = f
                .store
                .load_or_default::<super::common::Account>("1")
                .await
                .unwrap();
            account.record(super::common::deposited(1));
            f.store.save(&mut account).await.unwrap()
        };
        let saved = Instant::now();
        f.store
            .wait_for("balances", &recorded, Duration::from_secs(5))
            .await
            .unwrap();
        latencies.push(saved.elapsed());
        assert_eq!(sum(&f).await, recorded.version);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    latencies.sort_unstable();
    println!(
        "from commit to read model: p50 {:?}, max {:?}; {spent} transactions in 5 s idle",
        latencies[25], latencies[49]
    );
    assert!(latencies[25] < Duration::from_millis(100), "{latencies:?}");
    runner.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_ones_own_writes_never_answers_with_stale_data() {
    let f = fixture().await;
    with_balances(&f).await;
    let runner = run(&f.store, balances().partitions(4), Balances::default()).await;
    let writers = (0..8).map(|id| {
        let (f, id) = (&f, format!("w{id}"));
        async move {
            let session = f.session().await;
            let query = session
                .prepare("SELECT cents FROM balances WHERE id = $1")
                .await
                .unwrap();
            for n in 1..=15_i64 {
                let mut account = f
                    .store
                    .load_or_default::<super::common::Account>(&id)
                    .await
                    .unwrap();
                account.record(super::common::deposited(1));
                let recorded = f.store.save(&mut account).await.unwrap();
                f.store
                    .wait_for("balances", &recorded, Duration::from_secs(20))
                    .await
                    .unwrap();
                let cents: i64 = session.query_one(&query, &[&id]).await.unwrap().get(0);
                assert_eq!(cents, n);
            }
        }
    });
    futures_util::future::join_all(writers).await;
    // With nobody at work there is no waiting for ever.
    runner.shutdown().await.unwrap();
    account_of(&f.store, "late", 1).await;
    let now = f.store.safe_position().await.unwrap();
    let error = f
        .store
        .wait_for("balances", now, Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(error.is_behind(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_works_through_a_pooler_in_transaction_mode() {
    let f = fixture().await;
    with_balances(&f).await;
    let bouncer = f
        .database
        .cluster()
        .pgbouncer(PoolMode::Transaction)
        .unwrap();
    let stores: Vec<_> = (0..2)
        .map(|_| {
            EventStore::builder()
                .url(bouncer.url(&f.database.name))
                .pool_size(6)
                .build()
                .unwrap()
        })
        .collect();
    let first = run(&stores[0], balances().partitions(4), Balances::default()).await;
    let second = run(&stores[1], balances().partitions(4), Balances::default()).await;
    spread(&f, &[2, 2]).await;
    for id in 0..20 {
        account_of(&stores[0], &id.to_string(), 5).await;
    }
    caught_up(&stores[1], "balances").await;
    assert_eq!(sum(&f).await, 100);
    first.shutdown().await.unwrap();
    spread(&f, &[4]).await;
    account_of(&stores[0], "last", 5).await;
    caught_up(&stores[1], "balances").await;
    assert_eq!(sum(&f).await, 105);
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_outlives_a_restart_of_the_database() {
    use mire_client::testing::Cluster;
    let cluster = tokio::task::spawn_blocking(|| Cluster::start().unwrap())
        .await
        .unwrap();
    let url = cluster.url(mire_cluster_database());
    let store = EventStore::connect(&url).await.unwrap();
    let session = super::common::session(&url).await;
    session
        .batch_execute("CREATE TABLE balances (id text PRIMARY KEY, cents bigint, events bigint)")
        .await
        .unwrap();
    let runner = run(&store, balances().partitions(2), Balances::default()).await;
    account_of(&store, "1", 5).await;
    caught_up(&store, "balances").await;
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.crash().unwrap();
        cluster
    })
    .await
    .unwrap();
    until("the store is back", || async {
        store.safe_position().await.is_ok()
    })
    .await;
    account_of(&store, "1", 5).await;
    caught_up(&store, "balances").await;
    let session = super::common::session(&url).await;
    let sum: i64 = session
        .query_one("SELECT sum(cents)::bigint FROM balances", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(sum, 10);
    runner.shutdown().await.unwrap();
    drop(cluster);
}

fn mire_cluster_database() -> &'static str {
    "mire"
}
