//! A pgbouncer in front of a cluster.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{Cluster, Error, Result, SUPERUSER, Toolchain, control, port};

/// How long a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolMode {
    /// Until it disconnects.
    Session,
    /// For one transaction: no session state survives.
    Transaction,
}

/// A running pgbouncer; dropping it stops it.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl PgBouncer {
    pub(crate) fn start(cluster: &Cluster, mode: PoolMode) -> Result<Self> {
        let (program, runtime) = find()?;
        let port = port::free_port().map_err(Error::io("looking for a free port"))?;
        let home = cluster.folder().join(format!("pgbouncer-{port}"));
        std::fs::create_dir(&home).map_err(Error::io("making pgbouncer's folder"))?;
        cluster.user().own(&home)?;
        let write = |name: &str, text: String| {
            let path = home.join(name);
            std::fs::write(&path, text)
                .map_err(Error::io(format!("writing pgbouncer's {name}")))?;
            cluster.user().own(&path)
        };
        write("users.txt", format!("\"{SUPERUSER}\" \"\"\n"))?;
        write("pgbouncer.ini", ini(cluster, mode, port, &home))?;

        let mut command = Command::new(program);
        command.arg(home.join("pgbouncer.ini"));
        if let Some(runtime) = runtime {
            command.env("LD_LIBRARY_PATH", runtime);
        }
        let log = home.join("log");
        let child = control::spawn(&mut command, cluster.user(), &home, &log)?;
        let mut bouncer = Self { child, port, log };
        bouncer.wait_ready()?;
        Ok(bouncer)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(control::not_ready(
                    &self.log,
                    &format!("pgbouncer ended: {status}"),
                ));
            }
            sleep(Duration::from_millis(10));
        }
        Err(control::not_ready(&self.log, "pgbouncer does not listen"))
    }

    /// The superuser's URL of a database, through the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, database)
    }

    /// A role's URL of a database, through the pooler.
    #[must_use]
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Everything it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = control::signal_and_wait(&mut self.child, Signal::QUIT);
    }
}

fn ini(cluster: &Cluster, mode: PoolMode, port: u16, home: &Path) -> String {
    let mode = match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    };
    // auth_query lets every role in that the cluster has, also those a test makes later.
    format!(
        "[databases]\n* = host={socket} port={server}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\npool_mode = {mode}\nauth_type = trust\nauth_file = {home}/users.txt\n\
         auth_user = {SUPERUSER}\nadmin_users = {SUPERUSER}\nmax_client_conn = 1000\ndefault_pool_size = 20\n\
         ignore_startup_parameters = extra_float_digits,options\n",
        socket = cluster.folder().display(),
        server = cluster.port(),
        home = home.display(),
    )
}

/// The toolchain's pgbouncer, or one on the system.
fn find() -> Result<(PathBuf, Option<PathBuf>)> {
    let home = Toolchain::locate()?.pgbouncer();
    let ours = home.join("bin/pgbouncer");
    if ours.exists() {
        return Ok((ours, Some(home.join("runtime")).filter(|dir| dir.exists())));
    }
    ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .map(|path| (path, None))
        .ok_or(Error::NoProgram {
            program: "pgbouncer".to_owned(),
            path: ours,
        })
}
