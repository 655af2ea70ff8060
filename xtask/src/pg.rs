//! A PostgreSQL to build against: private, or one the user names.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use mire_cluster::{Server, Toolchain};

use crate::run::{cargo, quiet, root};
use crate::{Target, install, setup};

/// Headers, a place to install into and, mostly, a server.
pub(crate) struct Pg {
    pub(crate) version: u32,
    config: PathBuf,
    /// None for the user's own, of which perhaps only headers are there.
    private: Option<Server>,
    toolchain: Toolchain,
}

impl Pg {
    /// The one the user named, or the private one, set up if need be.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        if let Some(config) = &target.pg_config {
            let said = quiet(Command::new(config).arg("--version"))?;
            let version = major(&said).with_context(|| {
                format!("{} does not tell its version: {said}", config.display())
            })?;
            if let Some(wanted) = target.pg.filter(|wanted| *wanted != version) {
                bail!(
                    "{} belongs to PostgreSQL {version}, not {wanted}",
                    config.display()
                );
            }
            setup::run(target)?;
            let toolchain = Toolchain::locate()?;
            return Ok(Self {
                version,
                config: config.clone(),
                private: None,
                toolchain,
            });
        }
        let version = target.pg.unwrap_or(18);
        let toolchain = setup::ensure(version)?;
        let server = Server::in_toolchain(&toolchain, version);
        let config = server.bin("pg_config");
        Ok(Self {
            version,
            config,
            private: Some(server),
            toolchain,
        })
    }

    /// Its programs.
    pub(crate) fn server(&self) -> Result<Server> {
        match &self.private {
            Some(server) => Ok(server.clone()),
            None => Ok(Server::in_folder(&self.ask("--bindir")?)?),
        }
    }

    /// What its pg_config says.
    pub(crate) fn ask(&self, what: &str) -> Result<PathBuf> {
        let mut command = Command::new(&self.config);
        if let Some(runtime) = self.private.as_ref().and_then(Server::runtime) {
            command.env("LD_LIBRARY_PATH", runtime);
        }
        Ok(quiet(command.arg(what))?.trim().into())
    }

    /// The folder for builds against this version: switching versions must not rebuild the bindings.
    pub(crate) fn target_dir(&self) -> PathBuf {
        root().join("target").join(format!("pg{}", self.version))
    }

    /// cargo with a subcommand for pg_mire, told where headers and libclang are.
    pub(crate) fn cargo(&self, subcommand: &[&str]) -> Result<Command> {
        let version = self.version;
        let home = self.target_dir().join("pgrx");
        std::fs::create_dir_all(&home)
            .with_context(|| format!("cannot make {}", home.display()))?;
        // Without it pgrx makes its bindings anew at every build.
        let config = format!("[configs]\npg{version} = \"{}\"\n", self.config.display());
        install::write_if_new(&home.join("config.toml"), config.as_bytes())?;
        let mut command = cargo();
        command
            .args(subcommand)
            .args(["-p", "pg_mire", "--lib", "--no-default-features"]);
        command.arg("--features").arg(format!("pg{version}"));
        command.arg("--target-dir").arg(self.target_dir());
        command
            .env("PGRX_HOME", home)
            .env("PGRX_PG_CONFIG_PATH", &self.config);
        let llvm = self.toolchain.root().join("llvm");
        if std::env::var_os("LIBCLANG_PATH").is_none() && llvm.join("lib").exists() {
            command
                .env("LIBCLANG_PATH", llvm.join("lib"))
                .env("LD_LIBRARY_PATH", llvm.join("lib"));
            let builtin = llvm.join("builtin");
            command.env(
                "BINDGEN_EXTRA_CLANG_ARGS",
                format!("-resource-dir={}", builtin.display()),
            );
        }
        Ok(command)
    }

    /// Where a file of the extension belongs, below `staging` if that is given.
    pub(crate) fn place(&self, what: &str, staging: Option<&Path>) -> Result<PathBuf> {
        let place = self.ask(what)?;
        Ok(match staging {
            Some(staging) => staging.join(place.strip_prefix("/").unwrap_or(&place)),
            None => place,
        })
    }
}

/// 17 of "PostgreSQL 17.5 (Debian …)".
fn major(said: &str) -> Option<u32> {
    let version = said.split_whitespace().nth(1)?;
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_found_in_what_distributions_say() {
        assert_eq!(major("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(major("PostgreSQL 19beta1"), Some(19));
        assert_eq!(major("nonsense"), None);
    }
}
