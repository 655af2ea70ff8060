//! Appends at any version through the typed clients: ours shares commits between tasks.

use anyhow::{Result, ensure};

use super::aggregates::check_totals;
use super::append::{side, tasks_of};
use crate::entry::Content;
use crate::floors::{GlobalLock, InsertMany, InsertOne, OneLock, WriteMessage, commits};
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::stores::{Mire, Ours, Store};

pub(crate) fn rows(message_db: bool) -> Vec<Row> {
    const EVENTS: Measure = Measure::Rate("events/s");
    const SMALL: Content = Content::Small;
    let one = |id: String, tasks: usize, each: usize, others: bool| {
        let what = format!("`EventStore::append`, 1 event, {}", tasks_of(tasks));
        let mut row = Row::new(id, what, EVENTS)
            .ours(appends::<Ours>(tasks, each, 1))
            .mire(appends::<Mire>(tasks, each, 1))
            .floor(side::<InsertOne>(SMALL, tasks, each, 1))
            .side(Role::Commits, commits(tasks, each));
        if others {
            let lock = side::<GlobalLock<OneLock>>(SMALL, tasks, each, 1);
            row = row.side(Role::GlobalLock, lock);
            if message_db {
                let write = side::<GlobalLock<WriteMessage>>(SMALL, tasks, each, 1);
                row = row.side(Role::MessageDb, write);
            }
        }
        row
    };
    let ten = |id: &str, each: usize| {
        let what = format!("`EventStore::append`, 10 events a call, 32 tasks × {each}");
        Row::new(id, what, EVENTS)
            .ours(appends::<Ours>(32, each, 10))
            .mire(appends::<Mire>(32, each, 10))
            .floor(side::<InsertMany>(SMALL, 32, each, 10))
            .target(Target::Ratio(Role::Mire, 3.0))
    };
    let mut rows = vec![one("B6".into(), 32, 100, true).target(Target::Ratio(Role::Mire, 6.0))];
    for tasks in [1, 8, 32, 64, 128, 256_u16] {
        let count = usize::from(tasks);
        let each = if tasks == 1 { 500 } else { 25 };
        let row = one(format!("B7/{tasks}"), count, each, tasks == 256).at(tasks.into());
        rows.push(if tasks == 256 {
            row.target(Target::Ratio(Role::Mire, 8.0))
        } else {
            row
        });
    }
    rows.push(ten("B8", 5));
    rows.push(ten("B8/200", 200));
    rows
}

/// So many tasks that append so often, so many entries a call, each to a ledger of its own.
fn appends<S: Store>(tasks: usize, calls: usize, entries: usize) -> Side {
    Side::new(move |world| async move {
        let store = S::open(&world, S::DATABASE).await?;
        let ids: Vec<String> = (0..tasks).map(|_| world.fresh_id()).collect();
        // The statement of appends at any version, one after the other.
        store.append(&world.fresh_id(), Content::Small, 1).await?;
        let names = ids.clone();
        let work = async move {
            together(ids.into_iter().map(|id| {
                let store = store.clone();
                async move { append_all(&store, &id, calls, entries).await }
            }))
            .await?;
            Ok(Work::of(tasks * calls * entries))
        };
        Ok(Ready::new(work, async move {
            let store = S::connect(&world, S::DATABASE).await?;
            check_totals(&store, &names, calls * entries).await
        }))
    })
}

async fn append_all<S: Store>(store: &S, id: &str, calls: usize, entries: usize) -> Result<()> {
    for call in 1..=calls {
        let version = store.append(id, Content::Small, entries).await?;
        ensure!(
            usize::try_from(version) == Ok(call * entries),
            "answered version {version} instead of {}",
            call * entries
        );
    }
    Ok(())
}
