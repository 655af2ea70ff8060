//! Where `cargo xtask setup` puts the servers, and how everybody else finds them again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::{Result, ServerUser};

/// The private folder that holds PostgreSQL servers and tools, never shared with the system.
#[derive(Debug, Clone)]
pub struct Toolchain {
    root: PathBuf,
}

impl Toolchain {
    /// The toolchain of the project that this crate was built in, or the one `MIRE_TOOLCHAIN` names.
    ///
    /// # Errors
    /// [`crate::Error::NoServerUser`] when nobody could run a server here.
    pub fn locate() -> Result<Self> {
        if let Some(root) = std::env::var_os("MIRE_TOOLCHAIN") {
            return Ok(Self { root: root.into() });
        }
        Self::of_workspace(&Self::workspace())
    }

    /// The toolchain of the checkout at `workspace`.
    ///
    /// Usually `target/toolchain`. A checkout below a folder that the server's user may not enter
    /// (a root-only home, say) keeps its servers in `/var/tmp` under a name made from its path.
    ///
    /// # Errors
    /// [`crate::Error::NoServerUser`] when nobody could run a server here.
    pub fn of_workspace(workspace: &Path) -> Result<Self> {
        let inside = workspace.join("target/toolchain");
        if ServerUser::choose()?.reaches(&inside) {
            return Ok(Self { root: inside });
        }
        let mut hasher = DefaultHasher::new();
        workspace.hash(&mut hasher);
        Ok(Self {
            root: PathBuf::from(format!("/var/tmp/pg_mire-{:016x}", hasher.finish())),
        })
    }

    /// The checkout that this crate was compiled in (it need not exist any more).
    #[must_use]
    pub fn workspace() -> PathBuf {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).unwrap_or(here).to_path_buf()
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What belongs to one PostgreSQL version: `bin` and, where needed, `runtime` with its libraries.
    #[must_use]
    pub fn version(&self, version: u32) -> PathBuf {
        self.root.join(format!("pg{version}"))
    }

    /// The unpacked pgbouncer: `bin/pgbouncer` and `runtime` with its libraries.
    #[must_use]
    pub fn pgbouncer(&self) -> PathBuf {
        self.root.join("pgbouncer")
    }

    /// The versions that are set up, oldest first.
    #[must_use]
    pub fn versions(&self) -> Vec<u32> {
        (14..30)
            .filter(|version| self.version(*version).join("bin/postgres").exists())
            .collect()
    }
}
