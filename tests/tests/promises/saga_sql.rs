//! A saga driven from plain SQL: the example runs in psql as it stands, and what it prints is pinned.

use mire_cluster::{Toolchain, shared};
use mire_tests::golden::assert_golden;

/// Times of day are all that differs from run to run.
fn without_times(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let masked = match (line.find("  20"), line.find(" UTC  ")) {
            (Some(from), Some(to)) if from < to => {
                format!("{}  (then){}", &line[..from], &line[to + 4..])
            }
            _ => line.to_owned(),
        };
        lines += &(masked + "\n");
    }
    lines
}

#[test]
fn the_saga_in_sql_runs_to_its_end() {
    let database = shared().fresh_database().unwrap();
    let mut psql = shared().command("psql");
    psql.args(["-X", "-a", "-d", &database.url, "-f"])
        .arg(Toolchain::workspace().join("examples/sql/saga.sql"));
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("ended: completed"), "{printed}");
    assert_golden("saga_sql.txt", &without_times(&printed));
}
