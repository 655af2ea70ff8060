//! Running programs and telling what is going on.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Tells the user what happens next.
pub(crate) fn say(line: impl AsRef<str>) {
    eprintln!("xtask: {}", line.as_ref());
}

/// The checkout's root.
pub(crate) fn root() -> PathBuf {
    mire_cluster::Toolchain::workspace()
}

/// Runs a command that speaks for itself.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command that nobody wants to hear from unless it fails; answers what it printed.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !out.status.success() {
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        bail!(
            "{} failed ({}):\n{}",
            describe(command),
            out.status,
            said.trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What `cargo run` set for xtask itself is not meant for the builds it starts.
    for (key, _) in std::env::vars_os() {
        let key = key.to_string_lossy().into_owned();
        if key.starts_with("CARGO_PKG_")
            || key.starts_with("CARGO_BIN_")
            || key.starts_with("CARGO_MANIFEST_")
        {
            cargo.env_remove(key);
        }
    }
    cargo
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn describe(command: &Command) -> String {
    let mut line = name(command);
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// How many tests passed and failed.
#[derive(Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs a test runner, shows what it says, and adds up its closing lines.
pub(crate) fn count(command: &mut Command) -> Result<Counts> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", name(command)))?;
    // Our copies of the pipe's end would keep the loop below from ever ending.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut counts = Counts::default();
    for line in BufReader::new(reader).lines() {
        let line = line.context("cannot read the test runner's output")?;
        println!("{line}");
        if line.trim_start().starts_with("Summary [") || line.starts_with("test result: ") {
            counts.add(Counts {
                passed: number_before(&line, "passed"),
                failed: number_before(&line, "failed"),
            });
        }
    }
    let status = child.wait().context("waiting for the test runner")?;
    if !status.success() && counts.failed == 0 {
        bail!(
            "{} ended with {status} and without a failed test",
            describe(command)
        );
    }
    Ok(counts)
}

fn number_before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line
        .split([' ', ',', ';', '('])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .filter(|pair| pair[1] == word)
        .filter_map(|pair| pair[0].parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_both_runners_are_understood() {
        let nextest = "     Summary [   3.2s] 9 tests run: 7 passed (1 slow), 2 failed, 0 skipped";
        assert_eq!(
            (
                number_before(nextest, "passed"),
                number_before(nextest, "failed")
            ),
            (7, 2)
        );
        let cargo = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            (
                number_before(cargo, "passed"),
                number_before(cargo, "failed")
            ),
            (5, 0)
        );
    }
}
