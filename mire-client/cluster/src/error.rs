//! What can go wrong with a throwaway cluster, and what to do next.

use std::path::PathBuf;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a throwaway cluster could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No PostgreSQL server of the wanted version is known.
    #[error(
        "no PostgreSQL {wanted} server found. In the project's folder run `cargo xtask setup`; elsewhere set \
         MIRE_PG_BIN to the folder that holds `postgres` and `initdb` (looked in: {looked})"
    )]
    NoServer {
        /// The version asked for, or "(any version)".
        wanted: String,
        /// The folders that were searched.
        looked: String,
    },
    /// A program that belongs to the server or the toolchain is missing.
    #[error("{program} is missing at {path}. Run `cargo xtask setup` to unpack it again")]
    NoProgram {
        /// Its name.
        program: String,
        /// Where it was expected.
        path: PathBuf,
    },
    /// A file or process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{what} failed:\n{output}")]
    Failed {
        /// What was being done.
        what: String,
        /// What the program said.
        output: String,
    },
    /// The server did not come up.
    #[error("the server did not become ready ({why}). The end of its log:\n{log}")]
    NotReady {
        /// What was seen instead.
        why: String,
        /// The last lines of the server's log.
        log: String,
    },
    /// The processes of a stopped or crashed server would not go away.
    #[error("the server's processes are still there after {seconds} s: {pids:?}")]
    StillAlive {
        /// How long was waited.
        seconds: u64,
        /// Who is left.
        pids: Vec<u32>,
    },
    /// The extension's files are not installed into this server.
    #[error(
        "CREATE EXTENSION pg_mire failed. In the project's folder run `cargo xtask install --pg {version}`; \
         elsewhere install the extension into this server first.\n{output}"
    )]
    NoExtension {
        /// The server's major version.
        version: u32,
        /// What psql said.
        output: String,
    },
    /// The log holds lines that no healthy run writes.
    #[error("the server's log holds what it must not:\n{lines}")]
    UncleanLog {
        /// The offending lines.
        lines: String,
    },
    /// The operation would disturb others who share this cluster.
    #[error(
        "this cluster is shared with other processes and cannot be {what}; start one with Cluster::start()"
    )]
    Shared {
        /// What was asked for.
        what: &'static str,
    },
    /// Running as root, and there is nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root and neither a user `postgres` nor `nobody` exists; create one of them"
    )]
    NoServerUser,
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
