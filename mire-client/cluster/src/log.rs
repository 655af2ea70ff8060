//! Reading the server's log like a test would.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// What a healthy server never writes.
const ALARMS: &[&str] = &[
    "PANIC:",
    "FATAL:",
    "was terminated by signal",
    "TRAP:",
    "exited with exit code",
];

/// FATAL lines that only say that somebody knocked while the door was closed, or was told to leave.
const HARMLESS: &[&str] = &[
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is not yet accepting connections",
    "the database system is in recovery mode",
    "terminating connection due to unexpected postmaster exit",
    // An autovacuum worker whose database a test has just dropped, with force.
    "terminating autovacuum process due to administrator command",
    // A client that left while the server was still working for it: it is the client that is gone.
    "connection to client lost",
    "\"logical replication launcher\"", // its normal end at a shutdown
];

/// The lines of `log` that raise an alarm and are not excused by `allowed`.
pub(crate) fn alarms(log: &str, allowed: &[&str]) -> Vec<String> {
    log.lines()
        .filter(|line| ALARMS.iter().any(|alarm| line.contains(alarm)))
        .filter(|line| {
            !names_a_dropped_database(line)
                && !HARMLESS
                    .iter()
                    .chain(allowed)
                    .any(|excuse| line.contains(excuse))
        })
        .map(str::to_owned)
        .collect()
}

/// Whether somebody came too late for a database that a test has dropped: a background worker, which
/// names it by number, or a pool that outlives its [`Database`](crate::Database).
fn names_a_dropped_database(line: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((_, rest)) = line.split_once("FATAL:  database ") else {
        return false;
    };
    let Some(name) = rest.strip_suffix(" does not exist") else {
        return false;
    };
    let fresh = name
        .strip_prefix("\"t")
        .and_then(|name| name.strip_suffix('"'));
    digits(name)
        || fresh
            .and_then(|name| name.split_once('_'))
            .is_some_and(|(process, count)| digits(process) && digits(count))
}

/// Notes an expectation in the file that lies beside the log. One write, so that several processes may.
pub(crate) fn expect(expectations: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(expectations);
    file.and_then(|mut file| file.write_all(format!("{text}\n").as_bytes()))
        .map_err(Error::io(format!(
            "noting an expectation in {}",
            expectations.display()
        )))
}

/// Fails with the lines that raise an alarm.
pub(crate) fn check(log: &str, expectations: &Path, allowed: &[&str]) -> Result<()> {
    let expected = std::fs::read_to_string(expectations).unwrap_or_default();
    let excuses: Vec<&str> = expected.lines().chain(allowed.iter().copied()).collect();
    let alarms = alarms(log, &excuses);
    if alarms.is_empty() {
        Ok(())
    } else {
        Err(Error::UncleanLog {
            lines: alarms.join("\n"),
        })
    }
}

/// Checks a log that [`Builder::collect_log`](crate::Builder::collect_log) has kept, with the expectations beside it.
///
/// # Errors
/// [`Error::UncleanLog`] with the offending lines.
pub fn check_log_file(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::io(format!("reading {}", path.display())))?;
    check(
        &String::from_utf8_lossy(&bytes),
        &path.with_extension("expected"),
        &[],
    )
}

/// The last `count` lines.
pub(crate) fn tail(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_alarm_and_a_closed_door_is_not() {
        let log = "x FATAL:  the database system is starting up\nx PANIC:  could not write\nx LOG:  ready";
        assert_eq!(alarms(log, &[]), ["x PANIC:  could not write"]);
        assert!(alarms(log, &["could not write"]).is_empty());
    }

    #[test]
    fn who_is_late_for_a_dropped_test_database_is_no_alarm() {
        assert!(alarms("x FATAL:  database 25565 does not exist", &[]).is_empty());
        assert!(alarms("x FATAL:  database \"t178_1\" does not exist", &[]).is_empty());
        assert_eq!(
            alarms("x FATAL:  database \"shop\" does not exist", &[]).len(),
            1
        );
    }

    #[test]
    fn tail_copes_with_short_logs() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
