//! pg_mire beside the least that PostgreSQL can do for the same work, in one run, against one throwaway cluster.
//!
//! `cargo xtask bench` builds and runs it. How it measures:
//!
//! - A [row](row) has sides: ours, a floor, and a floor of commits. Each round runs every side of every row once, one
//!   after the other ([`rounds`]), on fresh streams: so a figure's neighbour was measured a moment earlier.
//! - A side prepares (connections, statements, warm-up), then works while the clock runs, then is checked: a wrong answer
//!   is a failed row.
//! - Only ratios of sides that ran side by side count; each is the median of its rounds, with the extremes.

mod counters;
mod cpu;
mod document;
mod events;
mod figures;
mod floors;
mod machine;
mod report;
mod rounds;
mod row;
mod rows;
mod side;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use world::World;

/// Measures pg_mire beside PostgreSQL's floors.
#[derive(Parser)]
struct Options {
    /// How often each row is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only rows whose id or description holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Writes the table into this document, between its markers
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mire-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "no rounds, no figures");
    let mut rows = rows::all();
    if let Some(text) = &options.only {
        rows.retain(|row| row.matches(text));
        ensure!(
            !rows.is_empty(),
            "no row's id or description holds {text:?}"
        );
    }
    eprintln!("mire-benches: starting a cluster …");
    let cluster = world::cluster()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(async {
        let world = World::create(cluster).await?;
        let before = machine::describe(&world).await?;
        println!("{before}");
        let measured = rounds::run(&world, &rows, options.rounds).await?;
        world.assert_same_build()?;
        let after = machine::load();
        anyhow::Ok(report::Report {
            machine: before,
            load_after: after,
            rounds: options.rounds,
            rows: measured,
        })
    })?;
    let text = report.to_markdown();
    println!("{text}");
    let failures = report.failures();
    ensure!(failures.is_empty(), "failed rows: {}", failures.join(", "));
    if let Some(document) = &options.document {
        document::write(document, &text)?;
        eprintln!("mire-benches: wrote {}", document.display());
    }
    Ok(())
}
