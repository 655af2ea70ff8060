//! A PostgreSQL server's programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, Result, Toolchain};

/// The programs of one installed PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Server {
    version: u32,
    bin: PathBuf,
    runtime: Option<PathBuf>,
}

impl Server {
    /// Finds a server of this major version, or the newest there is.
    ///
    /// Looks at the project's toolchain, then `MIRE_PG_BIN`, `PATH`, and where distributions install.
    ///
    /// # Errors
    /// [`Error::NoServer`], which says how to get one.
    pub fn find(version: Option<u32>) -> Result<Self> {
        let toolchain = Toolchain::locate()?;
        let explicit = std::env::var_os("MIRE_PG_BIN").map(PathBuf::from);
        let mut looked = Vec::new();
        if explicit.is_none() {
            looked.push(toolchain.root().to_path_buf());
            let ready = toolchain.versions();
            if let Some(found) = version
                .or(ready.last().copied())
                .filter(|v| ready.contains(v))
            {
                return Ok(Self::in_toolchain(&toolchain, found));
            }
        }
        let folders = explicit.map_or_else(system_folders, |bin| vec![bin]);
        for bin in folders {
            if let Ok(server) = Self::in_folder(&bin)
                && version.is_none_or(|wanted| wanted == server.version)
            {
                return Ok(server);
            }
            looked.push(bin);
        }
        Err(Error::NoServer {
            wanted: version.map_or_else(|| "(any version)".to_owned(), |v| v.to_string()),
            looked: looked
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The server that `cargo xtask setup` unpacked for this version.
    #[must_use]
    pub fn in_toolchain(toolchain: &Toolchain, version: u32) -> Self {
        let home = toolchain.version(version);
        let runtime = Some(home.join("runtime")).filter(|dir| dir.exists());
        Self {
            version,
            bin: home.join("bin"),
            runtime,
        }
    }

    /// The server whose programs lie in `bin`; asks it for its version.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when there is no server in that folder, [`Error::Failed`] when it does not run.
    pub fn in_folder(bin: &Path) -> Result<Self> {
        let postgres = bin.join("postgres");
        if !postgres.exists() || !bin.join("initdb").exists() {
            return Err(Error::NoProgram {
                program: "postgres".to_owned(),
                path: postgres,
            });
        }
        let said = Command::new(&postgres)
            .arg("--version")
            .output()
            .map_err(Error::io(format!("running {}", postgres.display())))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let digits = said
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let major = digits.map(|word| {
            word.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        });
        let version = major.and_then(|major| major.parse().ok());
        let version = version.ok_or_else(|| Error::Failed {
            what: format!("asking {} for its version", postgres.display()),
            output: said,
        })?;
        Ok(Self {
            version,
            bin: bin.to_path_buf(),
            runtime: None,
        })
    }

    /// The major version: 15, 18.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Where one of its programs lies.
    #[must_use]
    pub fn bin(&self, program: &str) -> PathBuf {
        self.bin.join(program)
    }

    /// The folder with the libraries the programs need, when the system may not have them.
    #[must_use]
    pub fn runtime(&self) -> Option<&Path> {
        self.runtime.as_deref()
    }

    /// One of its programs, ready to run, with no `PG*` settings inherited from the caller.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin(program));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some(runtime) = &self.runtime {
            command.env("LD_LIBRARY_PATH", runtime);
        }
        command
    }
}

fn system_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| {
            std::env::split_paths(&path)
                .filter(|dir| dir.join("initdb").exists())
                .collect()
        })
        .unwrap_or_default();
    let installed = (14..30).rev().flat_map(|version| {
        [
            format!("/usr/lib/postgresql/{version}/bin"),
            format!("/usr/pgsql-{version}/bin"),
        ]
    });
    folders.extend(installed.map(PathBuf::from).filter(|dir| dir.exists()));
    folders
}
