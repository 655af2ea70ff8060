//! Load, record one, save: on one stream, on many, and beside readers.

use anyhow::{Context, Result, ensure};

use crate::floors::commits;
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::stores::{Mire, Ours, Store};

pub(crate) fn rows() -> Vec<Row> {
    const SAVES: Measure = Measure::Rate("saves/s");
    vec![
        Row::new(
            "B1",
            "load, record one, save, 1,000 times on one stream",
            SAVES,
        )
        .ours(one_ledger::<Ours>(1_000))
        .mire(one_ledger::<Mire>(1_000))
        .side(Role::Commits, commits(1, 500))
        .target(Target::Ratio(Role::Commits, 1.0 / 1.3).or(Target::Ratio(Role::Mire, 1.5))),
        Row::new(
            "B2",
            "load, record one, save, 32 tasks × 50 on own streams",
            SAVES,
        )
        .ours(many_ledgers::<Ours>(32, 50))
        .mire(many_ledgers::<Mire>(32, 50))
        .side(Role::Commits, commits(32, 100))
        .target(Target::Ratio(Role::Mire, 4.0)),
        Row::new(
            "B12",
            "16 tasks × 30 load, record, save while 16 tasks × 30 load; as many loads a second",
            SAVES,
        )
        .ours(mixed::<Ours>(16, 30))
        .mire(mixed::<Mire>(16, 30))
        .side(Role::Commits, commits(16, 100))
        .target(Target::Ratio(Role::Mire, 4.0)),
    ]
}

/// Adds to a ledger that nobody else adds to.
async fn add<S: Store>(store: &S, id: &str, before: i64) -> Result<()> {
    let found = store.add(id).await?.context("a conflict with nobody")?;
    ensure!(found == before, "{found} entries instead of {before}");
    Ok(())
}

/// Fails unless each of these ledgers has so many entries.
pub(crate) async fn check_totals<S: Store>(
    store: &S,
    ids: &[String],
    expected: usize,
) -> Result<()> {
    for id in ids {
        let total = store.total(id).await?;
        ensure!(
            usize::try_from(total) == Ok(expected),
            "{id} adds up to {total} instead of {expected}"
        );
    }
    Ok(())
}

/// One ledger that is loaded, changed and saved so often. Loading it takes longer each time.
fn one_ledger<S: Store>(saves: i64) -> Side {
    Side::new(move |world| async move {
        const FIRST: i64 = 50;
        let store = S::open(&world, S::DATABASE).await?;
        let id = world.fresh_id();
        for before in 0..FIRST {
            add(&store, &id, before).await?;
        }
        let ids = vec![id.clone()];
        let work = async move {
            for before in FIRST..FIRST + saves {
                add(&store, &id, before).await?;
            }
            Ok(Work::of(usize::try_from(saves)?))
        };
        let total = usize::try_from(FIRST + saves)?;
        Ok(Ready::new(work, async move {
            let store = S::connect(&world, S::DATABASE).await?;
            check_totals(&store, &ids, total).await
        }))
    })
}

/// A ledger for each of so many tasks.
fn many_ledgers<S: Store>(tasks: usize, saves: i64) -> Side {
    Side::new(move |world| async move {
        let store = S::open(&world, S::DATABASE).await?;
        let ids: Vec<String> = (0..tasks).map(|_| world.fresh_id()).collect();
        let names = ids.clone();
        let each = usize::try_from(saves)?;
        let work = async move {
            together(ids.into_iter().map(|id| {
                let store = store.clone();
                async move {
                    for before in 0..saves {
                        add(&store, &id, before).await?;
                    }
                    Ok(())
                }
            }))
            .await?;
            Ok(Work::of(tasks * each))
        };
        Ok(Ready::new(work, async move {
            let store = S::connect(&world, S::DATABASE).await?;
            check_totals(&store, &names, each).await
        }))
    })
}

/// So many ledgers, each with a task that adds to it and one that loads it.
fn mixed<S: Store>(ledgers: usize, each: i64) -> Side {
    Side::new(move |world| async move {
        let store = S::open(&world, S::DATABASE).await?;
        let ids: Vec<String> = (0..ledgers).map(|_| world.fresh_id()).collect();
        for id in &ids {
            add(&store, id, 0).await?;
        }
        let names = ids.clone();
        let saves = usize::try_from(each)?;
        let work = async move {
            let writers = ids.iter().cloned().map(|id| (true, id));
            let mut jobs: Vec<_> = writers.collect();
            jobs.extend(ids.into_iter().map(|id| (false, id)));
            together(jobs.into_iter().map(|(writing, id)| {
                let store = store.clone();
                async move {
                    let mut seen = 1;
                    for before in 1..=each {
                        if writing {
                            add(&store, &id, before).await?;
                        } else {
                            let total = store.total(&id).await?;
                            ensure!(total >= seen, "{total} entries after {seen}");
                            seen = total;
                        }
                    }
                    Ok(())
                }
            }))
            .await?;
            Ok(Work::of(ledgers * saves))
        };
        Ok(Ready::new(work, async move {
            let store = S::connect(&world, S::DATABASE).await?;
            check_totals(&store, &names, saves + 1).await
        }))
    })
}
