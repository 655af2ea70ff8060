//! psql in a process of its own, which can be stopped in the middle of anything.

use std::io::Write;
use std::process::{Child, Output, Stdio};

use mire_cluster::Database;
use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// A session of psql that is told what to do line by line.
pub struct Psql(Child);

impl Psql {
    /// Connects; prints values bare, and of errors the SQLSTATE.
    ///
    /// # Panics
    /// When psql cannot be started.
    #[must_use]
    pub fn start(database: &Database<'_>) -> Self {
        let mut psql = database.cluster().command("psql");
        psql.args(["-X", "-q", "-At", "-v", "VERBOSITY=sqlstate", &database.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(psql.spawn().unwrap())
    }

    /// Gives it SQL to do when it comes to it.
    ///
    /// # Panics
    /// When it has gone.
    pub fn says(&mut self, sql: &str) {
        let stdin = self.0.stdin.as_mut().unwrap();
        // In one write: psql may leave as soon as it has read a line.
        stdin.write_all(format!("{sql}\n").as_bytes()).unwrap();
    }

    /// Stops it, or has it go on.
    ///
    /// # Panics
    /// When it has gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Lets it come to the end of its script; what it printed.
    ///
    /// # Panics
    /// When that is no text.
    #[must_use]
    pub fn printed(self) -> String {
        String::from_utf8(self.end().stdout).unwrap()
    }

    /// Lets it come to the end of its script; what it complained of, line by line.
    ///
    /// # Panics
    /// When that is no text.
    #[must_use]
    pub fn complaints(self) -> String {
        String::from_utf8(self.end().stderr).unwrap()
    }

    /// Lets it come to the end of its script.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn end(self) -> Output {
        self.0.wait_with_output().unwrap()
    }
}
