//! One throwaway cluster.

use std::collections::BTreeMap;
use std::fs::{Permissions, create_dir_all, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Mutex;

use rustix::process::Signal;

use crate::watchdog::Watchdog;
use crate::{
    Builder, DATABASE, Error, PgBouncer, PoolMode, Result, SUPERUSER, Server, ServerUser, control,
    log, port,
};

/// A running PostgreSQL server with a data directory of its own.
///
/// Dropping it stops the server and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) server: Server,
    user: ServerUser,
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    /// None when another process owns the server, or while it is down.
    postmaster: Mutex<Option<Child>>,
    /// None when another process owns the server.
    watchdog: Option<Watchdog>,
}

impl Cluster {
    /// A cluster with the extension in database `mire`, of the version `MIRE_TEST_PG` names or the newest set up.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// Prepares a cluster that differs from the usual.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn create(server: Server, wishes: &Builder) -> Result<Self> {
        let user = ServerUser::choose()?;
        let folder = make_folder(user)?;
        let keep_log = wishes
            .keep_log
            .clone()
            .or_else(|| Some(std::env::var_os("MIRE_TEST_LOGS")?.into()));
        let watchdog = Some(Watchdog::guard(&folder, keep_log.as_deref())?);
        let mut cluster = Self {
            server,
            user,
            folder,
            port: 0,
            postmaster: Mutex::new(None),
            watchdog,
        };
        cluster.initdb(&wishes.settings)?;
        cluster.start_on_a_free_port()?;
        if !wishes.bare {
            cluster.create_database(DATABASE)?;
        }
        Ok(cluster)
    }

    /// Connects to a cluster that another process has started and keeps alive.
    pub(crate) fn attach(server: Server, folder: PathBuf, port: u16) -> Result<Self> {
        let user = ServerUser::choose()?;
        Ok(Self {
            server,
            user,
            folder,
            port,
            postmaster: Mutex::new(None),
            watchdog: None,
        })
    }

    fn initdb(&self, settings: &BTreeMap<String, String>) -> Result<()> {
        let mut initdb = self.server.command("initdb");
        self.user.apply(&mut initdb);
        initdb.arg("-D").arg(self.data()).args([
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        ]);
        control::run(
            initdb.current_dir(&self.folder).env_remove("LC_ALL"),
            "initdb",
        )?;
        let mut conf =
            String::from("# pg_mire's throwaway cluster\nlisten_addresses = '127.0.0.1'\n");
        let defaults = [
            ("unix_socket_directories", self.folder.display().to_string()),
            ("max_connections", "200".to_owned()),
            ("max_prepared_transactions", "100".to_owned()),
            ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
            ("log_min_messages", "warning".to_owned()),
        ];
        let mut all: BTreeMap<String, String> = defaults
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        all.extend(settings.clone());
        for (name, value) in all {
            conf.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        let path = self.data().join("postgresql.auto.conf");
        std::fs::write(&path, conf).map_err(Error::io(format!("writing {}", path.display())))
    }

    /// Somebody else may take the port between our look and the server's bind: then the next one.
    fn start_on_a_free_port(&mut self) -> Result<()> {
        let mut tries = 10;
        loop {
            self.port = port::free_port().map_err(Error::io("looking for a free port"))?;
            match self.start_again() {
                Err(Error::NotReady { log, .. })
                    if tries > 0 && log.contains("Address already in use") =>
                {
                    tries -= 1
                }
                other => return other,
            }
        }
    }

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port.
    ///
    /// # Errors
    /// [`Error::NotReady`] with the log's end when it does not come up.
    pub fn start_again(&self) -> Result<()> {
        self.own("started")?;
        let mut postgres = self.server.command("postgres");
        postgres
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()]);
        let mut child = control::spawn(&mut postgres, self.user, &self.folder, &self.logfile())?;
        control::wait_ready(&mut child, &self.data(), &self.logfile())?;
        *self.postmaster() = Some(child);
        Ok(())
    }

    /// Shuts the server down in an orderly way (fast mode: sessions are cut, a checkpoint is written).
    ///
    /// # Errors
    /// [`Error::Shared`] for a cluster of another process, [`Error::StillAlive`] when it does not end.
    pub fn stop(&self) -> Result<()> {
        self.own("stopped")?;
        if let Some(mut child) = self.postmaster().take() {
            control::signal_and_wait(&mut child, Signal::INT)?;
        }
        control::kill_all_in(&self.data())
    }

    /// Stops in an orderly way and starts again.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start_again`](Self::start_again).
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Kills the postmaster and all its children with SIGKILL and returns when none is left.
    ///
    /// # Errors
    /// [`Error::Shared`] for a cluster of another process, [`Error::StillAlive`] when a child survives.
    pub fn kill(&self) -> Result<()> {
        self.own("killed")?;
        if let Some(mut child) = self.postmaster().take() {
            control::signal_and_wait(&mut child, Signal::KILL)?;
        }
        control::kill_all_in(&self.data())
    }

    /// A crash: [`kill`](Self::kill), then start again and recover from the log.
    ///
    /// # Errors
    /// As [`kill`](Self::kill) and [`start_again`](Self::start_again).
    pub fn crash(&self) -> Result<()> {
        self.kill()?;
        self.start_again()
    }

    /// The account the server runs under.
    pub(crate) fn user(&self) -> ServerUser {
        self.user
    }

    /// The postmaster's process id, None while the server is down.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let state = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        state.lines().next()?.trim().parse().ok()
    }

    /// Everything the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.logfile()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Announces that the log will hold lines with this text on purpose, for every later check of it.
    ///
    /// # Errors
    /// [`Error::Io`] when that cannot be noted in the cluster's folder.
    pub fn expect_in_log(&self, text: &str) -> Result<()> {
        log::expect(&self.folder.join("expected"), text)
    }

    /// Fails if the log holds a PANIC, a FATAL or a crashed process that nobody expected and `allowed` does not excuse.
    ///
    /// # Errors
    /// [`Error::UncleanLog`] with the offending lines.
    pub fn check_log(&self, allowed: &[&str]) -> Result<()> {
        log::check(&self.log(), &self.folder.join("expected"), allowed)
    }

    /// As [`check_log`](Self::check_log), for tests.
    ///
    /// # Panics
    /// When the log is not clean.
    pub fn assert_clean_log(&self, allowed: &[&str]) {
        if let Err(error) = self.check_log(allowed) {
            panic!("{error}");
        }
    }

    /// Starts a pgbouncer in front of this cluster.
    ///
    /// # Errors
    /// [`Error::NoProgram`] when none is set up, [`Error::NotReady`] when it does not come up.
    pub fn pgbouncer(&self, mode: PoolMode) -> Result<PgBouncer> {
        PgBouncer::start(self, mode)
    }

    fn logfile(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn own(&self, what: &'static str) -> Result<()> {
        if self.watchdog.is_some() {
            Ok(())
        } else {
            Err(Error::Shared { what })
        }
    }

    fn postmaster(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.postmaster
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An orderly stop would write a checkpoint for nobody. The watchdog then removes the folder.
        if self.watchdog.is_some() {
            if let Some(mut child) = self.postmaster().take() {
                let _ = control::signal_and_wait(&mut child, Signal::QUIT);
            }
            let _ = control::kill_all_in(&self.data());
        }
    }
}

/// A folder the server's user owns, with a path short enough for a unix socket (107 bytes).
fn make_folder(user: ServerUser) -> Result<PathBuf> {
    let temp = std::env::temp_dir();
    let fits = temp.as_os_str().len() < 60 && user.reaches(&temp);
    let base = if fits { temp } else { PathBuf::from("/tmp") };
    let folder = tempfile::Builder::new()
        .prefix("mire-")
        .tempdir_in(&base)
        .map_err(Error::io("making a folder"))?
        .keep();
    // The kernel shows processes' directories without symlinks, and they are compared with this path.
    let folder = folder
        .canonicalize()
        .map_err(Error::io("resolving the cluster's folder"))?;
    create_dir_all(&folder).map_err(Error::io("making the cluster's folder"))?;
    set_permissions(&folder, Permissions::from_mode(0o755))
        .map_err(Error::io("opening the cluster's folder"))?;
    user.own(&folder)?;
    Ok(folder)
}
