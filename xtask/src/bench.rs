//! `cargo xtask bench`: pg_mire beside the least that PostgreSQL can do for the same work.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::run::{cargo, root, say, show};
use crate::{Target, install};

const DOCUMENT: &str = "docs/PERFORMANCE.md";

/// A full run writes the document's table; a quick or partial one only prints.
pub(crate) fn run(target: &Target, quick: bool, only: Option<&str>) -> Result<()> {
    let server = install::run(target, true, None)?.server()?;
    say("building the benchmark …");
    show(cargo().args(["build", "--quiet", "--release", "-p", "mire-benches"]))?;
    let mut bench = Command::new(root().join("target/release/mire-benches"));
    bench.env("MIRE_TEST_PG", server.version().to_string());
    if target.pg_config.is_some() {
        bench.env("MIRE_PG_BIN", server.bin(""));
    }
    if quick {
        bench.args(["--rounds", "1"]);
    }
    if let Some(only) = only {
        bench.args(["--only", only]);
    }
    if !quick && only.is_none() {
        bench.arg("--document").arg(root().join(DOCUMENT));
    }
    let status = bench.status()?;
    ensure!(status.success(), "the benchmark failed");
    Ok(())
}
