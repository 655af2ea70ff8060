//! `cargo xtask test`: everything that must hold, on every version.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mire_cluster::{Cluster, SHARED_CLUSTER, Server};

use crate::report::Report;
use crate::run::{Counts, cargo, count, root};
use crate::{Target, install, lint, setup, tools};

/// What every run may find in the shared cluster's log: sessions that tests cut on purpose.
const EXPECTED: &[&str] = &["terminating connection due to administrator command"];

pub(crate) struct Options {
    pub(crate) long: bool,
    pub(crate) no_lint: bool,
    pub(crate) filter: Vec<String>,
}

/// True when nothing failed.
pub(crate) fn run(target: &Target, options: &Options) -> Result<bool> {
    let versions = target
        .pg
        .map_or_else(|| setup::VERSIONS.to_vec(), |version| vec![version]);
    let mut report = Report::default();
    report.step("servers", || setup::run(target));
    if options.no_lint {
        report.step("checkers", tools::setup);
    } else {
        lint::steps(&mut report);
    }
    for version in versions {
        let target = Target {
            pg: Some(version),
            pg_config: target.pg_config.clone(),
        };
        let mut server = None;
        let installed = report.step(&format!("install on {version}"), || {
            server = Some(install::run(&target, false, None)?.server()?);
            Ok(())
        });
        if let Some(server) = server.filter(|_| installed) {
            let external = target.pg_config.is_some();
            report.tests(&format!("tests on {version}"), || {
                tests(server, external, options)
            });
            report.step(&format!("server logs on {version}"), || {
                clean(&logs(version))
            });
        }
    }
    if options.filter.is_empty() {
        report.tests("doctests", || {
            count(cargo().args(["test", "--quiet", "--doc", "--no-fail-fast"]))
        });
    }
    Ok(report.close())
}

/// One cluster serves all test processes; those that crash theirs start their own. All logs are looked through.
fn tests(server: Server, external: bool, options: &Options) -> Result<Counts> {
    let logs = logs(server.version());
    if logs.exists() {
        std::fs::remove_dir_all(&logs).context("cannot remove the last run's logs")?;
    }
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let version = server.version().to_string();
    // A server the user named is found by the test processes through this; private ones by themselves.
    let bin = external.then(|| server.bin(""));
    let cluster = Cluster::builder()
        .server(server)
        .collect_log(&logs)
        .setting("max_connections", "500")
        .start()?;
    for line in EXPECTED {
        cluster.expect_in_log(line)?;
    }
    let mut nextest = nextest(options);
    nextest
        .env("MIRE_TEST_PG", version)
        .env("MIRE_TEST_LOGS", &logs)
        .env(SHARED_CLUSTER, cluster.lend());
    if let Some(bin) = bin {
        nextest.env("MIRE_PG_BIN", bin);
    }
    let counts = count(&mut nextest)?;
    drop(cluster); // its log is kept now
    Ok(counts)
}

fn nextest(options: &Options) -> Command {
    let mut nextest = tools::program("cargo-nextest");
    // Without a terminal behind it, a progress bar is noise.
    nextest.args([
        "nextest",
        "run",
        "--show-progress",
        "none",
        "--status-level",
        "slow",
        "--no-tests",
        "fail",
    ]);
    if options.long {
        nextest.args(["--profile", "long"]).env("MIRE_LONG", "1");
    } else if let Ok(cores) = std::thread::available_parallelism() {
        // Most tests wait for something most of the time.
        let threads = cores.get() * 3 / 2;
        nextest.arg("--test-threads").arg(threads.to_string());
    }
    nextest.args(&options.filter);
    nextest
}

/// Where the logs of all clusters of a run are kept.
fn logs(version: u32) -> PathBuf {
    root().join("target/test-logs").join(format!("pg{version}"))
}

/// No server may have logged what nobody expected.
fn clean(logs: &Path) -> Result<()> {
    let mut unclean = Vec::new();
    for entry in std::fs::read_dir(logs).context("cannot list the servers' logs")? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "log")
            && let Err(error) = mire_cluster::check_log_file(&path)
        {
            unclean.push(format!("{}: {error}", path.display()));
        }
    }
    ensure!(unclean.is_empty(), "{}", unclean.join("\n"));
    Ok(())
}
