//! Reading the server's log like a test would.

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
    "\"logical replication launcher\"", // its normal end at a shutdown
];

/// The lines of `log` that raise an alarm and are not excused by `allowed`.
pub(crate) fn alarms(log: &str, allowed: &[&str]) -> Vec<String> {
    log.lines()
        .filter(|line| ALARMS.iter().any(|alarm| line.contains(alarm)))
        .filter(|line| {
            !HARMLESS
                .iter()
                .chain(allowed)
                .any(|excuse| line.contains(excuse))
        })
        .map(str::to_owned)
        .collect()
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
    fn tail_copes_with_short_logs() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
