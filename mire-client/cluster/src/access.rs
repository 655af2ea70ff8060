//! Ways into a cluster: databases, SQL, URLs, programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Cluster, DATABASE, Error, Result, SUPERUSER, Server, control};

impl Cluster {
    /// Makes a database that has the extension.
    ///
    /// # Errors
    /// [`Error::NoExtension`] when the extension's files are not installed.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.sql("postgres", &format!("CREATE DATABASE {}", quoted(name)))?;
        self.sql(name, "CREATE EXTENSION pg_mire")
            .map(drop)
            .map_err(|error| match error {
                Error::Failed { output, .. } => Error::NoExtension {
                    version: self.server.version(),
                    output,
                },
                other => other,
            })
    }

    /// Removes a database, whoever is still connected to it.
    ///
    /// # Errors
    /// [`Error::Failed`] with what psql said.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.sql(
            "postgres",
            &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name)),
        )
        .map(drop)
    }

    /// Runs SQL through psql as the superuser; the answer is unaligned rows without a header.
    ///
    /// # Errors
    /// [`Error::Failed`] with what psql said.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.command("psql");
        psql.env("PGDATABASE", database).args([
            "-X",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
        ]);
        control::run(&mut psql, sql)
    }

    /// One of the server's programs (`psql`, `pg_dump`, `pgbench`, …) with the environment to reach this cluster.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.server.command(program);
        command.envs(self.env(DATABASE));
        command
    }

    /// What a client needs in its environment to reach `database`: `DATABASE_URL` and the `PG*` variables.
    #[must_use]
    pub fn env(&self, database: &str) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.url(database)),
            ("PGHOST", self.folder.display().to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
            ("PGDATABASE", database.to_owned()),
        ]
    }

    /// The superuser's URL of a database, over TCP.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, database)
    }

    /// A role's URL of a database; nobody is asked for a password.
    #[must_use]
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Where one of the server's programs lies.
    #[must_use]
    pub fn bin(&self, program: &str) -> PathBuf {
        self.server.bin(program)
    }

    /// The server's programs.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the unix socket, the data directory and the log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

/// A name that SQL takes as it is.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
