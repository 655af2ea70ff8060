//! `cargo xtask lint`: everything that is checked without a server.

use anyhow::Result;

use crate::pg::Pg;
use crate::report::Report;
use crate::run::{cargo, root, show};
use crate::{Target, script, setup, tools};

/// What the extension is written for but not tested on.
const OTHER_VERSIONS: [u32; 3] = [14, 16, 17];

/// One step per checker.
pub(crate) fn steps(report: &mut Report, versions: &[u32]) {
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
    for version in versions {
        report.step(&format!("clippy: extension on {version}"), || {
            clippy_extension(*version)
        });
    }
    report.step("extension type-checks on 14, 16 and 17", || {
        OTHER_VERSIONS
            .iter()
            .try_for_each(|version| check_extension(*version))
    });
    report.step("documentation", || {
        show(
            cargo()
                .args(["doc", "--quiet", "--no-deps"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    });
}

fn clippy_extension(version: u32) -> Result<()> {
    let pg = Pg::of(&Target {
        pg: Some(version),
        pg_config: None,
    })?;
    show(
        pg.cargo(&["clippy", "--quiet"])?
            .args(["--", "-D", "warnings"]),
    )
}

/// Against the bindings that pgrx ships, see bundled_bindings.sh.
fn check_extension(version: u32) -> Result<()> {
    show(
        cargo()
            .args(["check", "--quiet", "-p", "pg_mire", "--lib"])
            .args(["--no-default-features", "--features"])
            .arg(format!("pg{version}"))
            .arg("--target-dir")
            .arg(root().join("target/bundled-bindings"))
            .env("DOCS_RS", "1")
            .env(
                "RUSTC_WRAPPER",
                root().join("xtask/src/bundled_bindings.sh"),
            ),
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
    steps(
        &mut report,
        &target
            .pg
            .map_or_else(|| setup::VERSIONS.to_vec(), |version| vec![version]),
    );
    Ok(report.close())
}
