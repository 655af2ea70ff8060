//! `cargo xtask lint`: everything that is checked without a server.

use std::ops::RangeInclusive;

use anyhow::Result;

use crate::report::Report;
use crate::run::{cargo, root, show};
use crate::{Target, script, setup, tools};

/// What the extension is written for.
const VERSIONS: RangeInclusive<u32> = 14..=18;

/// One step per checker.
pub(crate) fn steps(report: &mut Report) {
    report.step("checkers", tools::setup);
    report.step("format", || show(cargo().args(["fmt", "--all", "--check"])));
    report.step("typos", || show(&mut tools::program("typos")));
    report.step("copy and paste", || {
        show(tools::program("jscpd").arg("--no-colors"))
    });
    report.step("SQL: squawk", squawk);
    report.step("SQL: sqlfluff", || {
        show(tools::module("sqlfluff").args(["lint", "--disable-progress-bar", "sql"]))
    });
    report.step("Dockerfile", dockerfile);
    report.step("licences and sources", || {
        // Offline it wants to see every crate of the lock file, those for other systems too.
        show(cargo().args(["fetch", "--quiet", "--locked"]))?;
        show(tools::program("cargo-deny").args([
            "--offline",
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]))
    });
    report.step("clippy", || {
        show(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--exclude",
            "pg_mire",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    for version in VERSIONS {
        report.step(&format!("clippy: extension on {version}"), || {
            clippy_extension(version)
        });
    }
    report.step("documentation", || {
        show(
            cargo()
                .args(["doc", "--quiet", "--no-deps"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    });
}

/// Against the bindings that pgrx ships, see bundled_bindings.sh: no server is needed, and nothing is generated.
fn clippy_extension(version: u32) -> Result<()> {
    show(
        cargo()
            .args(["clippy", "--quiet", "-p", "pg_mire", "--lib"])
            .args(["--no-default-features", "--features"])
            .arg(format!("pg{version}"))
            .arg("--target-dir")
            .arg(root().join("target/bundled-bindings"))
            .env("DOCS_RS", "1")
            .env(
                "RUSTC_WRAPPER",
                root().join("xtask/src/bundled_bindings.sh"),
            )
            .args(["--", "-D", "warnings"]),
    )
}

/// Knows PostgreSQL's own grammar; `.squawk.toml` says which of its rules do not concern an install script.
fn squawk() -> Result<()> {
    let files = script::manifest(&root().join("sql"))?;
    show(
        tools::program("squawk")
            .args(["--reporter", "gcc"])
            .args(files),
    )
}

fn dockerfile() -> Result<()> {
    if root().join("Dockerfile").exists() {
        show(tools::program("hadolint").arg("Dockerfile"))
    } else {
        Ok(())
    }
}

/// Lints alone, for daily work.
pub(crate) fn run(target: &Target) -> Result<bool> {
    setup::run(target)?;
    let mut report = Report::default();
    steps(&mut report);
    Ok(report.close())
}
