//! Runs every side of every row, round after round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::counters::{commits, wal_bytes};
use crate::figures::float;
use crate::row::{Measure, Role, Row};
use crate::side::Side;
use crate::world::World;

/// One side of a row in one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// In the row's measure.
    pub(crate) value: f64,
    /// Commits, reads included, and bytes of WAL an operation.
    pub(crate) commits: f64,
    pub(crate) wal_bytes: f64,
}

/// A row and what came of it.
pub(crate) struct Measured {
    pub(crate) id: &'static str,
    pub(crate) what: String,
    pub(crate) measure: Measure,
    /// One sample a round for each side, in the rows' order.
    pub(crate) sides: Vec<(Role, Vec<Sample>)>,
    /// Why there is no figure: an error, or a wrong answer.
    pub(crate) failure: Option<String>,
}

/// Runs them all. A row that fails once is not run again.
pub(crate) async fn run(world: &Arc<World>, rows: &[Row], rounds: usize) -> Result<Vec<Measured>> {
    let mut measured = Vec::with_capacity(rows.len());
    let mut overheads = Vec::with_capacity(rows.len());
    for row in rows {
        let mut result = Measured {
            id: row.id,
            what: row.what.clone(),
            measure: row.measure,
            sides: row.sides.iter().map(|side| (side.0, Vec::new())).collect(),
            failure: None,
        };
        let mut overhead = Vec::new();
        for (role, side) in &row.sides {
            match commits_of_preparing(world, side).await {
                Ok(commits) => overhead.push(commits),
                Err(error) => {
                    fail(&mut result, *role, &error);
                    break;
                }
            }
        }
        overheads.push(overhead);
        measured.push(result);
    }
    for round in 1..=rounds {
        eprintln!("mire-benches: round {round} of {rounds}");
        for ((row, overhead), result) in rows.iter().zip(&overheads).zip(&mut measured) {
            for (i, (role, side)) in row.sides.iter().enumerate() {
                if result.failure.is_some() {
                    break;
                }
                match sample(world, row.measure, side, overhead[i]).await {
                    Ok(sample) => result.sides[i].1.push(sample),
                    Err(error) => fail(result, *role, &error),
                }
            }
        }
    }
    Ok(measured)
}

fn fail(result: &mut Measured, role: Role, error: &anyhow::Error) {
    eprintln!("mire-benches: {} failed: {error:#}", result.id);
    result.failure = Some(format!("{role:?}: {error:#}"));
}

/// Commits that connecting, preparing and warming up take. Sessions report their commits when they end, so those while
/// the clock ran can only be had as a difference.
async fn commits_of_preparing(world: &Arc<World>, side: &Side) -> Result<i64> {
    let before = commits(&world.observer).await?;
    drop(side.prepare(world).await.context("preparing")?);
    Ok(commits(&world.observer).await? - before)
}

async fn sample(
    world: &Arc<World>,
    measure: Measure,
    side: &Side,
    overhead: i64,
) -> Result<Sample> {
    let commits_before = commits(&world.observer).await?;
    let ready = side.prepare(world).await.context("preparing")?;
    let wal_before = wal_bytes(&world.observer).await?;
    let started = Instant::now();
    let work = ready.work.await?;
    let elapsed = started.elapsed();
    let wal = wal_bytes(&world.observer).await? - wal_before;
    let commits = commits(&world.observer).await? - commits_before - overhead;
    ready.check.await.context("wrong answer")?;
    let operations = float(work.operations);
    Ok(Sample {
        value: match measure {
            Measure::Rate(_) => operations / elapsed.as_secs_f64(),
            Measure::Cpu(_) => {
                let cpu = work.cpu.context("the side measures no CPU time")?;
                micros(cpu) / operations
            }
        },
        commits: float(commits) / operations,
        wal_bytes: float(wal) / operations,
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
