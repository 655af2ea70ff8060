//! How soon a handler hears of what was appended: B5, and L1 while a transaction elsewhere stays open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::entry::Content;
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::stores::{Manner, Mire, Ours, Seen, Store};
use crate::world::World;

/// Enough for ten above the 99th percentile: of fewer, a busy machine's single hitch would be the figure.
const APPENDS: u32 = 1_000;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn rows() -> Vec<Row> {
    const MS: Measure = Measure::Figure("ms");
    const P50: f64 = 0.5;
    const P99: f64 = 0.99;
    let single = |id, which| {
        let what = format!("from an append's answer to its handler, {APPENDS} appends: {which}");
        Row::new(id, what, MS)
    };
    let alone = Elsewhere::Nothing;
    vec![
        Row::new(
            "B5",
            "projection: 16 tasks × 25 saves, from the last answer to the last event handled",
            MS,
        )
        .ours(behind::<Ours>(16, 25))
        .mire(behind::<Mire>(16, 25)),
        single("B5/p50", "median")
            .ours(wake_up::<Ours>(P50, alone))
            .mire(wake_up::<Mire>(P50, alone))
            .target(Target::Figure(4.0)),
        single("B5/p99", "99th percentile")
            .ours(wake_up::<Ours>(P99, alone))
            .mire(wake_up::<Mire>(P99, alone))
            .target(Target::Figure(10.0)),
        single(
            "L1",
            "99th percentile while a transaction in another database holds an xid (floor: ours without it)",
        )
        .ours(wake_up::<Ours>(P99, Elsewhere::Transaction))
        .mire(wake_up::<Mire>(P99, Elsewhere::Transaction))
        .floor(wake_up::<Ours>(P99, alone))
        .target(Target::Ratio(Role::Floor, 1.2)),
    ]
}

/// What goes on in another database of the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    Nothing,
    Transaction,
}

/// A runner that has nothing left to do: it has handled an event that was just appended.
async fn running<S: Store>(
    world: &World,
    store: &S,
    seen: &Arc<Seen>,
) -> Result<(S::Running, i64)> {
    // Always the same subscription, so that it need not read everything again.
    let names = vec!["news".to_owned()];
    let running = store
        .project(names, Manner::Plain, Arc::clone(seen))
        .await?;
    // What earlier runs left is handled first; then it is quiet.
    loop {
        let before = seen.sum();
        store.append(&world.fresh_id(), Content::Small, 1).await?;
        seen.reaches(before + 1, PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        if seen.sum() == before + 1 {
            return Ok((running, before + 1));
        }
    }
}

async fn database<S: Store>(world: &World) -> Result<S> {
    let name = format!("{}_news", S::DATABASE);
    world.once(&name, S::create(world, &name)).await?;
    S::connect(world, &name).await
}

/// Milliseconds from the last answer to the last event handled.
fn behind<S: Store>(tasks: usize, saves: usize) -> Side {
    Side::new(move |world| async move {
        let store = database::<S>(&world).await?;
        let seen = Arc::new(Seen::nothing());
        let (running, before) = running(&world, &store, &seen).await?;
        let ids: Vec<String> = (0..tasks).map(|_| world.fresh_id()).collect();
        let work = async move {
            together(ids.into_iter().map(|id| {
                let store = store.clone();
                async move {
                    for _ in 0..saves {
                        store.add(&id).await?.context("a conflict with nobody")?;
                    }
                    Ok(())
                }
            }))
            .await?;
            let answered = Instant::now();
            let all = before + i64::try_from(tasks * saves)?;
            seen.reaches(all, PATIENCE).await?;
            let late = seen.last().saturating_duration_since(answered);
            S::stop(running).await?;
            ensure!(seen.sum() == all, "{} events for {all}", seen.sum());
            Ok(Work::of(tasks * saves).found(millis(late)))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

/// Milliseconds from an append's answer to the handler, that share of the appends faster. Infinite when it never comes.
fn wake_up<S: Store>(share: f64, elsewhere: Elsewhere) -> Side {
    const NEVER: Duration = Duration::from_secs(3);
    Side::new(move |world| async move {
        let store = database::<S>(&world).await?;
        let seen = Arc::new(Seen::nothing());
        let (running, mut before) = running(&world, &store, &seen).await?;
        let other = world.connect_to("postgres").await?;
        let work = async move {
            if elsewhere == Elsewhere::Transaction {
                other
                    .batch_execute("BEGIN; SELECT pg_current_xact_id()")
                    .await?;
            }
            let mut times = Vec::new();
            for _ in 0..APPENDS {
                let id = world.fresh_id();
                store.append(&id, Content::Small, 1).await?;
                let answered = Instant::now();
                before += 1;
                if seen.reaches(before, NEVER).await.is_err() {
                    times = vec![f64::INFINITY];
                    break;
                }
                times.push(millis(seen.last().saturating_duration_since(answered)));
            }
            drop(other);
            S::stop(running).await?;
            times.sort_by(f64::total_cmp);
            let count = f64::from(u32::try_from(times.len())?);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to APPENDS - 1
            let index = ((count - 1.0) * share).round() as usize;
            Ok(Work::of(times.len()).found(times[index]))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
