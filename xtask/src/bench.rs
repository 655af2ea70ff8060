//! `cargo xtask bench`: pg_mire beside its peers and the least that PostgreSQL can do for the same work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mire_cluster::Toolchain;

use crate::run::{cargo, quiet, root, say, show};
use crate::{Target, install};

const DOCUMENT: &str = "docs/PERFORMANCE.md";
/// A peer in SQL: its package holds nothing but files.
const MESSAGE_DB: (&str, &str) = ("@eventide/message-db", "1.3.1");
/// Enough for a look, on a machine that has other things to do.
const QUICK: [&str; 6] = [
    "--rounds",
    "1",
    "--feed-events",
    "100000",
    "--growth-events",
    "1000000",
];

/// What is measured how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Each row once instead of five times and on less data; only print
    #[arg(long)]
    quick: bool,
    /// Only rows whose id or description holds this text; only print
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Events that the store grows to (20,000,000 take 20 GB of disk; --quick: 1,000,000)
    #[arg(long, value_name = "N")]
    growth_events: Option<usize>,
}

/// A full run writes the document's tables and the plots; a quick or partial one only prints.
pub(crate) fn run(target: &Target, options: &Options) -> Result<()> {
    let mut bench = Command::new(target_dir().join("release/mire-benches"));
    match &target.pg_config {
        Some(_) => {
            let server = install::run(target, true, None)?.server()?;
            bench.env("MIRE_TEST_PG", server.version().to_string());
            bench.env("MIRE_PG_BIN", server.bin(""));
        }
        None => {
            let (version, toolchain) = own_server(target)?;
            bench.env("MIRE_TEST_PG", version.to_string());
            bench.env("MIRE_TOOLCHAIN", toolchain);
        }
    }
    say("building the benchmark …");
    show(cargo().args(["build", "--quiet", "--release", "-p", "mire-benches"]))?;
    match message_db() {
        Ok(folder) => {
            bench.arg("--message-db").arg(folder);
        }
        Err(error) => say(format!("without message-db: {error:#}")),
    }
    if options.quick {
        bench.args(QUICK);
    }
    if let Some(events) = options.growth_events {
        bench.args(["--growth-events", &events.to_string()]);
    }
    if let Some(only) = &options.only {
        bench.args(["--only", only]);
    }
    if !options.quick && options.only.is_none() {
        bench.arg("--document").arg(root().join(DOCUMENT));
    }
    let status = bench.status()?;
    ensure!(status.success(), "the benchmark failed");
    Ok(())
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A copy of the private server with the release build in it: the one that everybody else uses may get a debug build at
/// any moment. Answers its version and the toolchain folder it is in.
fn own_server(target: &Target) -> Result<(u32, PathBuf)> {
    let staging = root().join("target/bench/staging");
    let version = install::run(target, true, Some(&staging))?.version;
    let shared = Toolchain::locate()?;
    let original = shared.version(version);
    let toolchain = shared.root().join("bench");
    let copy = toolchain.join(format!("pg{version}"));
    if !copy.exists() {
        std::fs::create_dir_all(&toolchain)
            .with_context(|| format!("cannot make {}", toolchain.display()))?;
        copy_tree(&original, &copy)?;
    }
    let staged = original.strip_prefix("/").unwrap_or(&original);
    copy_tree(&staging.join(staged).join("."), &copy)?;
    Ok((version, toolchain))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    // Files that a running server has open stay as they are for it.
    let mut copy = Command::new("cp");
    copy.args(["-a", "--remove-destination"]).arg(from).arg(to);
    quiet(&mut copy).map(drop)
}

/// The package's SQL files, in exactly one version.
fn message_db() -> Result<PathBuf> {
    let (name, version) = MESSAGE_DB;
    let folder = root().join(format!("target/bench/message-db-{version}"));
    let sql = folder.join("package/database");
    if !sql.exists() {
        std::fs::create_dir_all(&folder)?;
        say(format!("fetching {name} {version} …"));
        let packed = quiet(
            Command::new("npm")
                .args(["pack", "--silent", &format!("{name}@{version}")])
                .current_dir(&folder),
        )
        .context("its package could not be had (is there an npm?)")?;
        quiet(
            Command::new("tar")
                .args(["-xzf", packed.trim()])
                .current_dir(&folder),
        )?;
    }
    Ok(sql)
}
