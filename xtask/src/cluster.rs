//! `cargo xtask cluster -- COMMAND`: a throwaway cluster around any command.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result};
use mire_cluster::{Cluster, DATABASE};

use crate::run::say;
use crate::{Target, install};

/// Runs the command and answers its exit status.
pub(crate) fn run(
    target: &Target,
    release: bool,
    settings: &[String],
    command: &[OsString],
) -> Result<u8> {
    let pg = install::run(target, release, None)?;
    let mut builder = Cluster::builder().server(pg.server()?);
    for setting in settings {
        let (name, value) = setting.split_once('=').context("--set wants NAME=VALUE")?;
        builder = builder.setting(name, value);
    }
    let cluster = builder.start()?;
    say(format!(
        "PostgreSQL {} at {}",
        cluster.server().version(),
        cluster.url(DATABASE)
    ));
    let code = inside(&cluster, command)?;
    if let Err(unclean) = cluster.check_log(&[]) {
        say(unclean.to_string());
    }
    Ok(code)
}

/// Runs a command that finds the cluster through its environment, and the server's programs on its path.
pub(crate) fn inside(cluster: &Cluster, command: &[OsString]) -> Result<u8> {
    let (program, args) = command.split_first().context("which command?")?;
    let mut path = OsString::from(cluster.bin("").as_os_str());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut child = Command::new(program);
    child
        .args(args)
        .envs(cluster.env(DATABASE))
        .env("PATH", path);
    if let Some(runtime) = cluster.server().runtime() {
        child.env("LD_LIBRARY_PATH", runtime);
    }
    let status = child
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}
