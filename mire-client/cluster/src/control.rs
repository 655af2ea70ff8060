//! Starting, stopping and killing server processes, and knowing when that has happened.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, Result, ServerUser, log};

const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(5);

/// Runs `command` as a daemon of the server's user that logs to `logfile`.
pub(crate) fn spawn(
    command: &mut Command,
    user: ServerUser,
    folder: &Path,
    logfile: &Path,
) -> Result<Child> {
    let out = append(logfile)?;
    let err = out
        .try_clone()
        .map_err(Error::io("duplicating the log's file handle"))?;
    user.apply(command);
    command
        .current_dir(folder)
        .process_group(0) // a Ctrl-C meant for the caller must not stop the server under it
        .env_remove("RUST_BACKTRACE") // backtraces would end up in the clients' error details
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(Error::io(format!(
            "starting {}",
            command.get_program().display()
        )))
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(Error::io(format!("opening {}", path.display())))
}

/// Runs `command` to its end; its output is the answer, or the error.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io(format!(
            "running {}",
            command.get_program().display()
        )))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let output = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Err(Error::Failed {
        what: what.to_owned(),
        output,
    })
}

/// Waits until the postmaster that works in `data` says that it accepts connections.
///
/// The same line of `postmaster.pid` that `pg_ctl -w` reads, without a process for every look.
pub(crate) fn wait_ready(postmaster: &mut Child, data: &Path, logfile: &Path) -> Result<()> {
    let pid = postmaster.id().to_string();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let state = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = state.lines().map(str::trim).collect();
        // On a standby "ready" is what hot_standby = on gives as well.
        if lines.first() == Some(&pid.as_str())
            && matches!(lines.get(7), Some(&("ready" | "standby")))
        {
            return Ok(());
        }
        if let Ok(Some(status)) = postmaster.try_wait() {
            return Err(not_ready(logfile, &format!("postgres ended: {status}")));
        }
        sleep(TICK);
    }
    Err(not_ready(
        logfile,
        &format!("still not after {} s", PATIENCE.as_secs()),
    ))
}

pub(crate) fn not_ready(logfile: &Path, why: &str) -> Error {
    let log = std::fs::read_to_string(logfile).unwrap_or_default();
    Error::NotReady {
        why: why.to_owned(),
        log: log::tail(&log, 25),
    }
}

/// Sends a signal to a child and waits for its end.
pub(crate) fn signal_and_wait(child: &mut Child, signal: Signal) -> Result<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Ok(status);
    }
    send(child.id(), signal);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child
            .try_wait()
            .map_err(Error::io("waiting for the server to end"))?
        {
            Some(status) => return Ok(status),
            None if Instant::now() > deadline => {
                return Err(Error::StillAlive {
                    seconds: PATIENCE.as_secs(),
                    pids: vec![child.id()],
                });
            }
            None => sleep(TICK),
        }
    }
}

/// Sends a signal; that the process is already gone is as good.
pub(crate) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills whatever works in `data` until nothing does: a dead postmaster's children may linger.
pub(crate) fn kill_all_in(data: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = working_in(data);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::StillAlive {
                seconds: PATIENCE.as_secs(),
                pids: left,
            });
        }
        left.iter().for_each(|pid| send(*pid, Signal::KILL));
        sleep(TICK);
    }
}

/// The processes whose working directory is `data`: the postmaster and all its children.
pub(crate) fn working_in(data: &Path) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let in_data =
        |process: &PathBuf| std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data);
    processes
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(in_data)
        .filter_map(|process| process.file_name()?.to_str()?.parse().ok())
        .collect()
}
