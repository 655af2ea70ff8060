//! Cleans up after a process that could not do it itself.
//!
//! A test binary that is killed, interrupted or simply ends with a cluster in a `static` drops
//! nothing. A small shell waits on a pipe for its end and then takes the server and the folder away.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{Error, Result};

// $1 is the cluster's folder, $2 where its log shall be kept, if anywhere. Only processes working in it are touched: pids get reused.
const SCRIPT: &str = r#"
read -r _
inside() { case "$(readlink "/proc/$1/cwd" 2>/dev/null)" in "$2"|"$2"/*) return 0;; esac; return 1; }
for signal in QUIT KILL; do
    left=100
    while [ $left -gt 0 ]; do
        pids=
        for proc in /proc/[0-9]*; do
            pid=${proc#/proc/}
            if [ "$pid" != $$ ] && inside "$pid" "$1"; then pids="$pids $pid"; fi
        done
        [ -z "$pids" ] && break 2
        [ $left -eq 100 ] && kill -s $signal $pids 2>/dev/null
        left=$((left - 1)); sleep 0.05
    done
done
# A killed postmaster leaves its pid file, which names the shared memory it also leaves.
segment=$(sed -n '7s/^ *[0-9][0-9]* *//p' "$1/data/postmaster.pid" 2>/dev/null)
[ -n "$segment" ] && ipcrm -m $segment 2>/dev/null
if [ -n "$2" ]; then
    name=$(basename "$1")
    cp "$1/expected" "$2/$name.expected" 2>/dev/null
    cp "$1/log" "$2/$name.log"
fi
rm -rf "$1"
"#;

/// The shell that waits; closing its input sets it off.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn guard(folder: &Path, keep_log: Option<&Path>) -> Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "mire-watchdog"])
            .arg(folder)
            .arg(keep_log.unwrap_or(Path::new("")))
            .current_dir("/")
            .process_group(0) // Ctrl-C in the terminal must not reach it
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting the watchdog shell"))?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // A failure to wait leaves a zombie until this process ends, nothing worse.
        let _ = self.shell.wait();
    }
}
