//! A hot standby of a throwaway cluster, in a folder of the cluster's own, so that it goes with it.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use mire_cluster::{Cluster, SUPERUSER, ServerUser};
use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use crate::session::{connect, value, wait_until};

/// A running standby; dropping it stops it. Drop it before its primary.
#[derive(Debug)]
pub struct Standby {
    port: u16,
    server: Child,
}

impl Standby {
    /// Copies the cluster with pg_basebackup and follows it.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn of(primary: &Cluster) -> Self {
        let data = primary.folder().join("standby");
        let mut backup = primary.command("pg_basebackup");
        backup.arg("-D").arg(&data).args([
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--no-sync",
        ]);
        let out = as_server(backup).output().unwrap();
        assert!(out.status.success(), "pg_basebackup: {out:?}");

        let port = free_port();
        let log = File::create(primary.folder().join("standby.log")).unwrap();
        let mut postgres = primary.command("postgres");
        postgres
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .process_group(0)
            .env("LC_ALL", "C.UTF-8")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .current_dir("/");
        let server = as_server(postgres).spawn().unwrap();
        let standby = Self { port, server };
        wait_until("the standby accepts connections", || {
            Client::connect(&standby.url("postgres"), NoTls).is_ok()
        });
        standby
    }

    /// The superuser's URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Waits until it has replayed everything that the primary has committed.
    ///
    /// # Panics
    /// When it does not.
    pub fn catch_up(&self, primary: &Cluster) {
        let mut client = connect(&primary.url("postgres"));
        let target: String = value(&mut client, "SELECT pg_current_wal_flush_lsn()::text");
        let mut client = connect(&self.url("postgres"));
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{target}'");
        wait_until("the standby has caught up", || value(&mut client, &reached));
    }

    /// Makes it a primary.
    ///
    /// # Panics
    /// When it does not become one.
    pub fn promote(&self) {
        let mut client = connect(&self.url("postgres"));
        assert!(value::<bool>(&mut client, "SELECT pg_promote(true, 60)"));
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}

/// PostgreSQL's programs refuse to work as root.
fn as_server(mut command: Command) -> Command {
    ServerUser::choose().unwrap().apply(&mut command);
    command.stdin(Stdio::null());
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
