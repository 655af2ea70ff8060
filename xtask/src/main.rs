//! The project's tasks: `cargo xtask` lists them.

mod bench;
mod cluster;
mod demo;
mod image;
mod install;
mod lint;
mod pg;
mod report;
mod run;
mod script;
mod setup;
mod test;
mod tools;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Builds, tries and tests pg_mire.
#[derive(Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// Which server a task works with.
#[derive(Args, Clone, Default)]
struct Target {
    /// PostgreSQL's major version (15 or 18; default 18, setup: both)
    #[arg(long, value_name = "N")]
    pg: Option<u32>,
    /// Use this server instead of a private one
    #[arg(long, value_name = "PATH", env = "PG_CONFIG")]
    pg_config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    /// Unpack PostgreSQL servers and what building against them needs, into a private folder
    Setup {
        #[command(flatten)]
        target: Target,
    },
    /// Build the extension and install it into the server
    Install {
        #[command(flatten)]
        target: Target,
        /// Build with optimisations
        #[arg(long)]
        release: bool,
        /// Install below this folder instead of into the server, to make an image or a package
        #[arg(long, value_name = "DIR")]
        staging: Option<PathBuf>,
    },
    /// Run a command with DATABASE_URL and PG* pointing at a fresh throwaway cluster
    Cluster {
        #[command(flatten)]
        target: Target,
        /// Build the extension with optimisations
        #[arg(long)]
        release: bool,
        /// A line for postgresql.conf, NAME=VALUE (may be given more than once)
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// psql in a fresh throwaway cluster with the extension
    Psql {
        #[command(flatten)]
        target: Target,
    },
    /// The main job on real input, in front of you
    Demo {
        #[command(flatten)]
        target: Target,
        /// Stay, with psql, in the database the demo has filled
        #[arg(long)]
        psql: bool,
    },
    /// Check formatting, spelling, SQL, licences, clippy and documentation
    Lint {
        #[command(flatten)]
        target: Target,
    },
    /// Build the Docker image and try it: create the extension, append, read
    Image {
        /// What builds and runs it
        #[arg(long, value_enum, default_value_t)]
        engine: image::Engine,
    },
    /// Measure against peers and the least PostgreSQL can do, and write the tables and plots of docs/PERFORMANCE.md
    Bench {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        options: bench::Options,
    },
    /// Lint, then run every test on every version
    Test {
        #[command(flatten)]
        target: Target,
        /// Run for the long durations and many seeds
        #[arg(long)]
        long: bool,
        /// Only run the tests
        #[arg(long)]
        no_lint: bool,
        /// Names of tests, or whatever else `cargo nextest run` takes
        #[arg(last = true)]
        filter: Vec<String>,
    },
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            // Not through Debug: a user's RUST_BACKTRACE would bury the message.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup { target } => setup::run(&target)?,
        Task::Install {
            target,
            release,
            staging,
        } => {
            install::run(&target, release, staging.as_deref())?;
        }
        Task::Cluster {
            target,
            release,
            set,
            command,
        } => {
            return Ok(cluster::run(&target, release, &set, &command)?.into());
        }
        Task::Psql { target } => {
            return Ok(cluster::run(&target, false, &[], &["psql".into()])?.into());
        }
        Task::Demo { target, psql } => return Ok(demo::run(&target, psql)?.into()),
        Task::Lint { target } => return Ok(passed(lint::run(&target)?)),
        Task::Image { engine } => image::run(engine)?,
        Task::Bench { target, options } => bench::run(&target, &options)?,
        Task::Test {
            target,
            long,
            no_lint,
            filter,
        } => {
            return Ok(passed(test::run(
                &target,
                &test::Options {
                    long,
                    no_lint,
                    filter,
                },
            )?));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn passed(ok: bool) -> ExitCode {
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
