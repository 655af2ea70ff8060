//! pg_mire beside what a user would pick instead, and beside the least that PostgreSQL can do for the same work, in one
//! run, against one throwaway cluster.
//!
//! `cargo xtask bench` builds and runs it. How it measures:
//!
//! - A [row](row) has sides: ours, mire, a floor, and a floor of commits. Workloads of both event stores are written once,
//!   over what [both can do](stores). Each round runs every side of every row once, one
//!   after the other ([`rounds`]), on fresh streams: so a figure's neighbour was measured a moment earlier.
//! - A side prepares (connections, statements, warm-up), then works while the clock runs, then is checked: a wrong answer
//!   is a failed row.
//! - Only ratios of sides that ran side by side count; each is the median of its rounds, with the extremes.

mod counters;
mod cpu;
mod document;
mod entry;
mod figures;
mod floors;
mod judge;
mod machine;
mod message_db;
mod plot;
mod report;
mod rounds;
mod row;
mod rows;
mod side;
mod stores;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use row::Role;
use rows::{Contender, Growth};
use world::{Sizes, World};

/// Measures pg_mire beside its peers and PostgreSQL's floors.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    part: Option<Part>,
    /// How often each row is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only rows whose id or description holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Events that projections catch up on
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    feed_events: usize,
    /// Events that the store grows to
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    growth_events: usize,
    /// The `database` folder of message-db's package
    #[arg(long, value_name = "DIR")]
    message_db: Option<PathBuf>,
    /// Writes the tables into this document, between its markers, and the plots beside it
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    /// One of several processes that write to the same stream; the benchmark starts them
    #[command(hide = true)]
    Contend(Contender),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.part {
        Some(Part::Contend(contender)) => contend(contender),
        None => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mire-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn contend(contender: &Contender) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(rows::contend(contender))
}

fn run(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "no rounds, no figures");
    let sizes = Sizes {
        feed: options.feed_events,
        growth: options.growth_events,
    };
    let wanted = |row: &row::Row| options.only.as_ref().is_none_or(|text| row.matches(text));
    let mut rows = rows::all(sizes, options.message_db.is_some());
    rows.retain(wanted);
    let grows = Growth::rows(sizes.growth).iter().any(wanted);
    ensure!(
        grows || !rows.is_empty(),
        "no row's id or description holds {:?}",
        options.only
    );
    eprintln!("mire-benches: starting a cluster …");
    let cluster = world::cluster()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (report, growth) = runtime.block_on(async {
        let world = World::create(cluster, sizes, options.message_db.as_deref()).await?;
        let before = machine::describe(&world).await?;
        println!("{before}");
        let mut measured = rounds::run(&world, &rows, options.rounds).await?;
        let growth = if grows {
            Growth::measure(&world, options.rounds, wanted).await?
        } else {
            Vec::new()
        };
        world.assert_same_build()?;
        measured.extend(growth.last().into_iter().flat_map(|last| last.rows.clone()));
        let mut missing = Vec::new();
        if options.message_db.is_none() {
            missing.push("message-db, whose package could not be had".to_owned());
        }
        let report = report::Report {
            machine: before,
            load_after: machine::load(),
            rounds: options.rounds,
            rows: measured,
            missing,
        };
        anyhow::Ok((report, growth))
    })?;
    let text = report.to_markdown();
    println!("{text}");
    let failures = report.failures();
    ensure!(failures.is_empty(), "failed rows: {}", failures.join(", "));
    if let Some(document) = &options.document {
        draw(document, &report, &growth)?;
        document::write(document, &(text + PLOTS))?;
        eprintln!("mire-benches: wrote {}", document.display());
    }
    Ok(())
}

/// As the document shows them.
const PLOTS: &str = "
![Throughput against concurrency](throughput.svg)

![What growth costs](growth.svg)
";

/// Throughput against concurrency, and what growth costs.
fn draw(document: &std::path::Path, report: &report::Report, growth: &[Growth]) -> Result<()> {
    let throughput = report.rows.iter().filter(|row| row.id.starts_with("B7/"));
    let names = [
        (Role::Ours, "pg_mire"),
        (Role::Mire, "mire 0.4.0"),
        (Role::Floor, "INSERT, one commit each"),
        (Role::Commits, "empty durable commits"),
    ];
    plot::draw(
        &document.with_file_name("throughput.svg"),
        "Appends of one event (B7)",
        "tasks",
        "events a second",
        &plot::sides(throughput, &names),
    )?;
    plot::draw(
        &document.with_file_name("growth.svg"),
        "Growth (G1)",
        "events in the store",
        "time against 200,000 events",
        &plot::slowdowns(growth.iter().flat_map(|at| &at.rows), Growth::FROM),
    )
}
