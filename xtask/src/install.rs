//! `cargo xtask install`: builds the extension against one server and puts it there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::pg::Pg;
use crate::run::{root, say, show};
use crate::{Target, script};

/// Builds and installs, into the server or below a staging folder that an image or package is made of.
pub(crate) fn run(target: &Target, release: bool, staging: Option<&Path>) -> Result<Pg> {
    let pg = Pg::of(target)?;
    let profile = if release { "release" } else { "debug" };
    say(format!(
        "building pg_mire for PostgreSQL {} ({profile}) …",
        pg.version
    ));
    let mut build = pg.cargo(&["build", "--quiet"])?;
    if release {
        build.arg("--release");
    }
    show(&mut build)?;

    let library = pg.target_dir().join(profile).join("libpg_mire.so");
    let bytes =
        std::fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
    let libraries = pg.place("--pkglibdir", staging)?;
    let extension = pg.place("--sharedir", staging)?.join("extension");
    if staging.is_some() {
        for folder in [&libraries, &extension] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
    }
    let mut changed = write_if_new(&libraries.join("pg_mire.so"), &bytes)?;
    for (name, text) in sql_files()? {
        changed |= write_if_new(&extension.join(name), text.as_bytes())?;
    }
    say(if changed {
        "installed"
    } else {
        "the installed extension is up to date"
    });
    Ok(pg)
}

/// The control file, the install script and the upgrade scripts, by file name.
pub(crate) fn sql_files() -> Result<Vec<(String, String)>> {
    let control = root().join("pg_mire/pg_mire.control");
    let text = std::fs::read_to_string(&control)
        .with_context(|| format!("cannot read {}", control.display()))?;
    let version = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("default_version")?
                .trim()
                .strip_prefix('=')?
                .split('\'')
                .nth(1)
        })
        .with_context(|| format!("{} has no default_version", control.display()))?;
    let sql = root().join("sql");
    let mut files = vec![(format!("pg_mire--{version}.sql"), script::join(&sql)?)];
    let releases = sql.join("releases");
    if releases.exists() {
        for entry in std::fs::read_dir(&releases)? {
            let path = entry?.path();
            if let Some(name) = path
                .file_name()
                .and_then(|name| name.to_str())
                .filter(|name| name.ends_with(".sql"))
            {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                files.push((name.to_owned(), text));
            }
        }
    }
    files.push(("pg_mire.control".to_owned(), text));
    Ok(files)
}

/// Writes a file unless it already says that. Under a new inode: a running server keeps the old library.
pub(crate) fn write_if_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
    // The server's user reads it, whatever the umask is.
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o644))
        .with_context(|| format!("cannot open {} to the server", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(true)
}
