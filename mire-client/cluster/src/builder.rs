//! What a cluster shall be like.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::{Cluster, Result, Server};

/// What a cluster shall be like; see [`Cluster::builder`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Builder {
    version: Option<u32>,
    server: Option<Server>,
    pub(crate) bare: bool,
    pub(crate) keep_log: Option<PathBuf>,
    pub(crate) settings: BTreeMap<String, String>,
}

impl Builder {
    /// Asks for a major version instead of `MIRE_TEST_PG` or the newest that is set up.
    pub fn pg(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// Uses exactly these programs.
    pub fn server(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }

    /// Sets a line of `postgresql.conf`; `fsync` stays on unless this says otherwise.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Leaves the cluster as initdb made it: no database `mire`, no extension.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Keeps the server's log in this folder when the cluster is gone; `MIRE_TEST_LOGS` does the same for all.
    pub fn collect_log(mut self, folder: impl Into<PathBuf>) -> Self {
        self.keep_log = Some(folder.into());
        self
    }

    /// Makes the cluster and waits until it accepts connections.
    ///
    /// # Errors
    /// [`NoServer`](crate::Error::NoServer) and [`NoExtension`](crate::Error::NoExtension) say what to install; otherwise the server's log is in the error.
    pub fn start(self) -> Result<Cluster> {
        let server = match self.server.clone() {
            Some(server) => server,
            None => Server::find(
                self.version
                    .or_else(|| std::env::var("MIRE_TEST_PG").ok()?.parse().ok()),
            )?,
        };
        Cluster::create(server, &self)
    }
}
