//! `cargo xtask install`: builds the extension against one server and puts it there.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use mire_cluster::{Server, Toolchain};

use crate::run::{cargo, quiet, root, say, show};
use crate::{Target, script, setup};

/// A server to build against.
pub(crate) struct Pg {
    pub(crate) server: Server,
    pub(crate) config: PathBuf,
    toolchain: Toolchain,
}

impl Pg {
    /// The server the user named, or the private one, set up if need be.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        if let Some(config) = &target.pg_config {
            let bin = quiet(Command::new(config).arg("--bindir"))?;
            let server = Server::in_folder(Path::new(bin.trim()))?;
            if let Some(wanted) = target.pg.filter(|wanted| *wanted != server.version()) {
                bail!(
                    "{} belongs to PostgreSQL {}, not {wanted}",
                    config.display(),
                    server.version()
                );
            }
            setup::run(target)?;
            return Ok(Self {
                server,
                config: config.clone(),
                toolchain: Toolchain::locate()?,
            });
        }
        let version = target.pg.unwrap_or(18);
        let toolchain = setup::ensure(version)?;
        let server = Server::in_toolchain(&toolchain, version);
        Ok(Self {
            config: server.bin("pg_config"),
            server,
            toolchain,
        })
    }

    fn ask(&self, what: &str) -> Result<PathBuf> {
        let mut command = Command::new(&self.config);
        if let Some(runtime) = self.server.runtime() {
            command.env("LD_LIBRARY_PATH", runtime);
        }
        Ok(quiet(command.arg(what))?.trim().into())
    }

    /// The folder for builds against this version: switching versions must not rebuild the bindings.
    pub(crate) fn target_dir(&self) -> PathBuf {
        root()
            .join("target")
            .join(format!("pg{}", self.server.version()))
    }

    /// cargo with a subcommand for pg_mire, told where server and libclang are.
    pub(crate) fn cargo(&self, subcommand: &[&str]) -> Result<Command> {
        let version = self.server.version();
        let home = self.target_dir().join("pgrx");
        std::fs::create_dir_all(&home)
            .with_context(|| format!("cannot make {}", home.display()))?;
        // Without it pgrx makes its bindings anew at every build.
        let config = format!("[configs]\npg{version} = \"{}\"\n", self.config.display());
        write_if_new(&home.join("config.toml"), config.as_bytes())?;
        let mut command = cargo();
        command.args(subcommand).args([
            "-p",
            "pg_mire",
            "--lib",
            "--no-default-features",
            "--features",
        ]);
        command
            .arg(format!("pg{version}"))
            .arg("--target-dir")
            .arg(self.target_dir());
        command
            .env("PGRX_HOME", home)
            .env("PGRX_PG_CONFIG_PATH", &self.config);
        let llvm = self.toolchain.root().join("llvm");
        if std::env::var_os("LIBCLANG_PATH").is_none() && llvm.join("lib").exists() {
            let builtin = llvm.join("builtin");
            command
                .env("LIBCLANG_PATH", llvm.join("lib"))
                .env("LD_LIBRARY_PATH", llvm.join("lib"));
            command.env(
                "BINDGEN_EXTRA_CLANG_ARGS",
                format!("-resource-dir={}", builtin.display()),
            );
        }
        Ok(command)
    }
}

pub(crate) fn run(target: &Target, release: bool) -> Result<Pg> {
    let pg = Pg::of(target)?;
    let version = pg.server.version();
    let profile = if release { "release" } else { "debug" };
    say(format!(
        "building pg_mire for PostgreSQL {version} ({profile}) …"
    ));
    let mut build = pg.cargo(&["build", "--quiet"])?;
    if release {
        build.arg("--release");
    }
    show(&mut build)?;

    let library = pg.target_dir().join(profile).join("libpg_mire.so");
    let bytes =
        std::fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
    let extension = pg.ask("--sharedir")?.join("extension");
    let mut changed = write_if_new(&pg.ask("--pkglibdir")?.join("pg_mire.so"), &bytes)?;
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
fn write_if_new(path: &Path, bytes: &[u8]) -> Result<bool> {
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
