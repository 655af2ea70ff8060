//! Golden files: what was agreed on, in `tests/golden`. `MIRE_UPDATE_GOLDEN=1` writes them anew; the diff is then for
//! a reviewer to judge.

use std::path::PathBuf;

/// Compares line by line with `tests/golden/NAME`.
///
/// # Panics
/// When they differ, with the lines that do.
#[track_caller]
pub fn assert_golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    if std::env::var("MIRE_UPDATE_GOLDEN").is_ok_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let agreed = std::fs::read_to_string(&path).unwrap_or_default();
    if agreed == actual {
        return;
    }
    let only = |these: &str, those: &str, sign: char| -> String {
        let those: Vec<&str> = those.lines().collect();
        let lines = these.lines().filter(|line| !those.contains(line));
        lines.map(|line| format!("{sign} {line}\n")).collect()
    };
    panic!(
        "{} is not what is there; if that is meant, MIRE_UPDATE_GOLDEN=1 writes it anew:\n{}{}",
        path.display(),
        only(&agreed, actual, '-'),
        only(actual, &agreed, '+'),
    );
}
