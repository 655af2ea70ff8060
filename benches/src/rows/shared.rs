//! Shared commits: many tasks with one `EventStore`, which sends what is issued at the same time in one commit.

use anyhow::{Context, Result, ensure};
use mire_client::{EventStore, ExpectedVersion};

use super::append::{WARM_UP, check_streams, side, tasks_of};
use crate::events::{self, Ledger};
use crate::floors::{InsertOne, commits};
use crate::row::{Measure, Role, Row};
use crate::side::{Ready, Side, Work, together};

/// The pool's default size: reads take their connections from there.
const POOL: usize = 16;

pub(crate) fn rows() -> Vec<Row> {
    const EVENTS: Measure = Measure::Rate("events/s");
    const SAVES: Measure = Measure::Rate("saves/s");
    let append = |id, tasks, each| {
        Row::new(
            id,
            format!("`EventStore::append`, 1 event, {}", tasks_of(tasks)),
            EVENTS,
        )
        .side(Role::Ours, appends(tasks, each))
        .side(Role::Floor, side::<InsertOne>(tasks, each, 1))
        .side(Role::Commits, commits(tasks, each))
    };
    vec![
        append("S1", 1, 500),
        append("B6", 32, 100),
        append("B7", 256, 40),
        Row::new(
            "B1",
            "load, record one, save, 1,000 times on one stream",
            SAVES,
        )
        .side(Role::Ours, one_ledger(1_000))
        .side(Role::Commits, commits(1, 500)),
        Row::new(
            "B2",
            "load, record one, save, 32 tasks × 50 on own streams",
            SAVES,
        )
        .side(Role::Ours, many_ledgers(32, 50))
        .side(Role::Commits, commits(32, 100)),
    ]
}

/// So many tasks that append so often, each to a stream of its own.
fn appends(tasks: usize, each: usize) -> Side {
    Side::new(move |world| async move {
        let store = world.store().await?;
        let streams: Vec<String> = (0..tasks).map(|_| world.fresh_stream()).collect();
        // One after the other, so that the number of commits is always the same and can be taken off.
        for _ in 0..WARM_UP {
            append_one(&store, &world.fresh_stream(), 1).await?;
        }
        let names = streams.clone();
        let work = async move {
            together(streams.into_iter().map(|stream| {
                let store = store.clone();
                async move {
                    for version in 1..=each {
                        append_one(&store, &stream, version).await?;
                    }
                    Ok(())
                }
            }))
            .await?;
            Ok(Work::of(tasks * each))
        };
        let version = i64::try_from(each)?;
        Ok(Ready::new(work, async move {
            check_streams(&world, names, version).await
        }))
    })
}

async fn append_one(store: &EventStore, stream: &str, version: usize) -> Result<()> {
    let recorded = store
        .append(stream, ExpectedVersion::Any, [events::new_event()?])
        .await?;
    ensure!(
        usize::try_from(recorded.version) == Ok(version),
        "answered version {} instead of {version}",
        recorded.version
    );
    Ok(())
}

/// One ledger that is loaded, changed and saved so often. Loading it takes longer each time.
fn one_ledger(saves: usize) -> Side {
    Side::new(move |world| async move {
        const FIRST: usize = 50;
        let store = world.store().await?;
        let id = world.fresh_number().to_string();
        for before in 0..FIRST {
            add_booking(&store, &id, before).await?;
        }
        let name = mire_client::stream_name::<Ledger>(&id);
        let work = async move {
            for before in FIRST..FIRST + saves {
                add_booking(&store, &id, before).await?;
            }
            Ok(Work::of(saves))
        };
        let version = i64::try_from(FIRST + saves)?;
        Ok(Ready::new(work, async move {
            check_streams(&world, vec![name], version).await
        }))
    })
}

/// A ledger for each of so many tasks.
fn many_ledgers(tasks: usize, saves: usize) -> Side {
    Side::new(move |world| async move {
        let store = world.store().await?;
        open_pool(&store).await?;
        for _ in 0..POOL * WARM_UP {
            add_booking(&store, &world.fresh_number().to_string(), 0).await?;
        }
        let ids: Vec<String> = (0..tasks)
            .map(|_| world.fresh_number().to_string())
            .collect();
        let names = ids.iter().map(mire_client::stream_name::<Ledger>).collect();
        let work = async move {
            together(ids.into_iter().map(|id| {
                let store = store.clone();
                async move {
                    for before in 0..saves {
                        add_booking(&store, &id, before).await?;
                    }
                    Ok(())
                }
            }))
            .await?;
            Ok(Work::of(tasks * saves))
        };
        let version = i64::try_from(saves)?;
        Ok(Ready::new(work, async move {
            check_streams(&world, names, version).await
        }))
    })
}

/// Opens all of the pool's connections: they would else be opened while the clock runs. They take turns afterwards.
async fn open_pool(store: &EventStore) -> Result<()> {
    let mut all = Vec::with_capacity(POOL);
    for _ in 0..POOL {
        all.push(store.pool().get().await.context("the pool is too small")?);
    }
    Ok(())
}

async fn add_booking(store: &EventStore, id: &str, before: usize) -> Result<()> {
    let mut ledger = store.load_or_default::<Ledger>(id).await?;
    ensure!(
        ledger.state().bookings == before,
        "{} bookings instead of {before}",
        ledger.state().bookings
    );
    ledger.record(events::booking());
    store.save(&mut ledger).await?;
    Ok(())
}
