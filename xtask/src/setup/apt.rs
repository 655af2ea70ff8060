//! Debian packages, unpacked into a private folder through apt's own configuration.

use std::collections::BTreeSet;
use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::name;
use crate::run::quiet;

/// Where Debian keeps a machine's libraries, below `usr/lib`.
fn multiarch() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

pub(super) fn server(toolchain: &Path, home: &Path, version: u32) -> Result<()> {
    let with_dependencies = [
        format!("postgresql-{version}"),
        format!("postgresql-client-{version}"),
    ];
    // Only its headers: its dependencies are a compiler that nobody calls here.
    let alone = [
        format!("postgresql-server-dev-{version}"),
        "libpq5".to_owned(),
    ];
    unpack(toolchain, home, &with_dependencies, &alone)?;
    name(home, "runtime", &format!("usr/lib/{}", multiarch()))?;
    name(home, "bin", &format!("usr/lib/postgresql/{version}/bin"))
}

pub(super) fn libclang(toolchain: &Path, home: &Path) -> Result<()> {
    unpack(
        toolchain,
        home,
        &["libclang1-14".to_owned()],
        &["libclang-common-14-dev".to_owned()],
    )?;
    name(home, "builtin", "usr/lib/llvm-14/lib/clang/14.0.6")?;
    name(home, "lib", &format!("usr/lib/{}", multiarch()))
}

pub(super) fn pgbouncer(toolchain: &Path, home: &Path) -> Result<()> {
    unpack(
        toolchain,
        home,
        &["pgbouncer".to_owned()],
        &["libpq5".to_owned()],
    )?;
    name(home, "runtime", &format!("usr/lib/{}", multiarch()))?;
    name(home, "bin", "usr/sbin")
}

/// Unpacks packages into `home`: some with whatever they need that this system lacks, some alone.
fn unpack(
    toolchain: &Path,
    home: &Path,
    with_dependencies: &[String],
    alone: &[String],
) -> Result<()> {
    let apt = Apt::prepare(toolchain)?;
    let archives = home.join("archives");
    create_dir_all(archives.join("partial")).context("cannot make a folder for packages")?;
    // Fetches what is missing here, and so also libraries a slim machine lacks; installs nothing.
    quiet(apt.get(&archives).args(["-y", "--no-install-recommends", "--download-only", "install"]).args(with_dependencies))
        .context("apt-get could not find or fetch the packages. Is this a Debian 12? Elsewhere use --pg-config PATH")?;
    // What is installed already was not fetched above.
    quiet(
        apt.get(&archives)
            .current_dir(&archives)
            .arg("download")
            .args(with_dependencies)
            .args(alone),
    )?;
    let debs = debs(&archives)?;
    if debs.is_empty() {
        bail!("apt-get fetched no package into {}", archives.display());
    }
    for deb in debs {
        quiet(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(home))?;
    }
    std::fs::remove_dir_all(&archives).context("cannot remove the fetched packages")
}

fn debs(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = std::fs::read_dir(folder).context("cannot list the fetched packages")?;
    let paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    Ok(paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .collect())
}

/// apt with package lists of its own: the system's may be missing, old, or not ours to update.
struct Apt {
    state: PathBuf,
}

impl Apt {
    fn prepare(toolchain: &Path) -> Result<Self> {
        let apt = Self {
            state: toolchain.join("apt"),
        };
        let marker = apt.state.join("updated");
        create_dir_all(apt.state.join("lists/partial"))
            .context("cannot make a folder for package lists")?;
        if !marker.exists() {
            quiet(apt.get(&apt.state).arg("update"))
                .context("apt-get could not read the package lists")?;
            std::fs::write(&marker, "").context("cannot note that the package lists are there")?;
        }
        Ok(apt)
    }

    fn get(&self, archives: &Path) -> Command {
        let mut command = Command::new("apt-get");
        let mut set = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        set("Dir::State::lists", &self.state.join("lists"));
        set("Dir::Cache", &self.state);
        set("Dir::Cache::archives", archives);
        // The system's lock guards installing, which does not happen here.
        command.args([
            "-qq",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "APT::Sandbox::User=root",
        ]);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}
