//! Runs every side of every row, round after round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::counters;
use crate::figures::float;
use crate::judge::name;
use crate::report::spoken;
use crate::row::{Measure, Role, Row, Target};
use crate::side::{self, Side};
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
#[derive(Clone)]
pub(crate) struct Measured {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) measure: Measure,
    pub(crate) sides: Vec<Figures>,
    pub(crate) targets: Vec<Target>,
    pub(crate) x: Option<f64>,
    /// Why there is no figure: an error, or a wrong answer.
    pub(crate) failure: Option<String>,
}

/// What came of a side.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) role: Role,
    /// Statements an operation, unless they cannot be counted.
    pub(crate) calls: Option<f64>,
    /// One a round.
    pub(crate) samples: Vec<Sample>,
    /// Commits that connecting, preparing and warming up take. Sessions report their commits when they end, so those
    /// while the clock ran can only be had as a difference.
    overhead: i64,
}

impl Figures {
    pub(crate) fn new(role: Role, samples: Vec<Sample>) -> Self {
        Self {
            role,
            calls: None,
            samples,
            overhead: 0,
        }
    }
}

/// Runs them all. A row that fails once is not run again.
pub(crate) async fn run(world: &Arc<World>, rows: &[Row], rounds: usize) -> Result<Vec<Measured>> {
    let mut measured: Vec<Measured> = rows.iter().map(unmeasured).collect();
    if rows.is_empty() {
        return Ok(measured);
    }
    world.count_calls(true).await?;
    eprintln!("mire-benches: counting statements …");
    each(rows, &mut measured, async |_, side, figures| {
        let (calls, overhead) = count(world, side).await?;
        (figures.calls, figures.overhead) = (calls, overhead);
        Ok(())
    })
    .await;
    world.count_calls(false).await?;
    for round in 1..=rounds {
        world.analyze().await?;
        eprintln!("mire-benches: round {round} of {rounds}");
        each(rows, &mut measured, async |row, side, figures| {
            let sample = sample(world, row.measure, side, figures.overhead).await?;
            figures.samples.push(sample);
            Ok(())
        })
        .await;
        for row in &measured {
            eprintln!("mire-benches: {}", spoken(row));
        }
    }
    Ok(measured)
}

fn unmeasured(row: &Row) -> Measured {
    Measured {
        id: row.id.clone(),
        what: row.what.clone(),
        measure: row.measure,
        sides: row
            .sides
            .iter()
            .map(|(role, _)| Figures::new(*role, Vec::new()))
            .collect(),
        targets: row.targets.clone(),
        x: row.x,
        failure: None,
    }
}

/// Does something with every side of every row, one after the other.
async fn each(
    rows: &[Row],
    measured: &mut [Measured],
    mut then: impl AsyncFnMut(&Row, &Side, &mut Figures) -> Result<()>,
) {
    for (row, result) in rows.iter().zip(measured) {
        for ((role, side), figures) in row.sides.iter().zip(&mut result.sides) {
            eprint!("\r\x1b[Kmire-benches: {} {} ", row.id, name(*role));
            if result.failure.is_none()
                && let Err(error) = then(row, side, figures).await
            {
                eprintln!("mire-benches: {} failed: {role:?}: {error:#}", row.id);
                result.failure = Some(format!("{role:?}: {error:#}"));
            }
        }
    }
    eprint!("\r\x1b[K");
}

/// Statements an operation, and the commits that preparing takes. Data that several runs share is made here.
async fn count(world: &Arc<World>, side: &Side) -> Result<(Option<f64>, i64)> {
    let ready = side.prepare(world).await.context("preparing")?;
    world.forget_calls().await?;
    let work = side::work(ready.work).await?;
    let calls = world.calls().await?;
    ready.check.await.context("wrong answer")?;
    let before = counters::commits(&world.observer).await?;
    drop(side.prepare(world).await.context("preparing")?);
    let overhead = counters::commits(&world.observer).await? - before;
    Ok((
        calls.map(|calls| float(calls) / float(work.operations)),
        overhead,
    ))
}

async fn sample(
    world: &Arc<World>,
    measure: Measure,
    side: &Side,
    overhead: i64,
) -> Result<Sample> {
    let commits_before = counters::commits(&world.observer).await?;
    let ready = side.prepare(world).await.context("preparing")?;
    let wal_before = counters::wal_bytes(&world.observer).await?;
    let started = Instant::now();
    let work = side::work(ready.work).await?;
    let elapsed = work.elapsed.unwrap_or_else(|| started.elapsed());
    let wal = counters::wal_bytes(&world.observer).await? - wal_before;
    let commits = counters::commits(&world.observer).await? - commits_before - overhead;
    ready.check.await.context("wrong answer")?;
    let operations = float(work.operations);
    Ok(Sample {
        value: match measure {
            Measure::Rate(_) => operations / elapsed.as_secs_f64(),
            Measure::Cpu(_) => {
                let cpu = work.cpu.context("the side measures no CPU time")?;
                micros(cpu) / operations
            }
            Measure::Figure(_) => work.figure.context("the side finds nothing out")?,
        },
        commits: float(commits) / operations,
        wal_bytes: float(wal) / operations,
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
