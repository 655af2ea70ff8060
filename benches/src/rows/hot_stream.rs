//! B3: writers that contend for one stream, in one process and in many.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use super::aggregates::check_totals;
use crate::floors::commits;
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::stores::{Mire, Ours, Store};

const WRITERS: usize = 16;
const EACH: usize = 25;

pub(crate) fn rows() -> Vec<Row> {
    const SAVES: Measure = Measure::Rate("saves/s");
    let what = |who: &str| format!("{who} contend for one stream, 400 saves");
    vec![
        Row::new("B3", what("16 tasks"), SAVES)
            .ours(tasks::<Ours>())
            .mire(tasks::<Mire>())
            .side(Role::Commits, commits(1, 400))
            .target(Target::Ratio(Role::Mire, 10.0)),
        Row::new("B3/processes", what("16 processes"), SAVES)
            .ours(processes::<Ours>(Kind::Ours))
            .mire(processes::<Mire>(Kind::Mire))
            .side(Role::Commits, commits(1, 400))
            .target(Target::Ratio(Role::Mire, 1.5)),
    ]
}

fn tasks<S: Store>() -> Side {
    Side::new(|world| async move {
        let store = S::open(&world, S::DATABASE).await?;
        let id = world.fresh_id();
        let ids = vec![id.clone()];
        let work = async move {
            together((0..WRITERS).map(|_| {
                let (store, id) = (store.clone(), id.clone());
                async move { write(&store, &id, EACH).await }
            }))
            .await?;
            Ok(Work::of(WRITERS * EACH))
        };
        Ok(Ready::new(work, async move {
            let store = S::connect(&world, S::DATABASE).await?;
            check_totals(&store, &ids, WRITERS * EACH).await
        }))
    })
}

async fn write<S: Store>(store: &S, id: &str, times: usize) -> Result<()> {
    for _ in 0..times {
        store.add_contended(id).await?;
    }
    Ok(())
}

/// Which store a process writes to.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Ours,
    Mire,
}

/// What a process of B3 is told.
#[derive(Args)]
pub(crate) struct Contender {
    #[arg(long)]
    url: String,
    #[arg(long)]
    store: Kind,
    #[arg(long)]
    id: String,
}

/// The life of one process: connects, says so, waits for a line, writes, says so.
pub(crate) async fn contend(contender: &Contender) -> Result<()> {
    match contender.store {
        Kind::Ours => {
            let store = mire_client::EventStore::connect(&contender.url).await?;
            race(&Ours::new(store), &contender.id).await
        }
        Kind::Mire => race(&Mire::at(&contender.url).await?, &contender.id).await,
    }
}

async fn race<S: Store>(store: &S, id: &str) -> Result<()> {
    const WARM_UP: usize = 8;
    write(store, &format!("{id}warm{}", std::process::id()), WARM_UP).await?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    write(store, id, EACH).await?;
    println!("done");
    Ok(())
}

/// A process that has said that it is ready.
struct Racer {
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Racer {
    fn start(url: &str, kind: Kind, id: &str) -> Result<Self> {
        let kind = kind.to_possible_value().context("it has a name")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["contend", "--store", kind.get_name()])
            .args(["--url", url, "--id", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process")?;
        let said = process.stdout.take().context("it has an output")?;
        Ok(Self {
            process,
            said: BufReader::new(said),
        })
    }

    fn expect(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        ensure!(line.trim() == word, "a process said {line:?}, not {word:?}");
        Ok(())
    }

    fn go(&mut self) -> Result<()> {
        let mut stdin = self.process.stdin.take().context("it has an input")?;
        Ok(stdin.write_all(b"go\n")?)
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        // One that has done its work ends by itself; one that has not must not outlive the run.
        drop(self.process.stdin.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn processes<S: Store>(kind: Kind) -> Side {
    Side::new(move |world| async move {
        let id = world.fresh_id();
        let mut racers = Vec::with_capacity(WRITERS);
        for _ in 0..WRITERS {
            racers.push(Racer::start(&world.url(S::DATABASE), kind, &id)?);
        }
        racers
            .iter_mut()
            .try_for_each(|racer| racer.expect("ready"))?;
        let ids = vec![id];
        let work = async move {
            let elapsed = tokio::task::spawn_blocking(move || {
                let started = Instant::now();
                racers.iter_mut().try_for_each(Racer::go)?;
                racers
                    .iter_mut()
                    .try_for_each(|racer| racer.expect("done"))?;
                anyhow::Ok(started.elapsed())
            })
            .await??;
            Ok(Work::of(WRITERS * EACH).within(elapsed))
        };
        let world = Arc::clone(&world);
        Ok(Ready::new(work, async move {
            let store = S::connect(&world, S::DATABASE).await?;
            check_totals(&store, &ids, WRITERS * EACH).await
        }))
    })
}
