//! `cargo xtask image`: builds the Docker image and shows that what is in it works.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::run::{quiet, root, say, show};

const TAG: &str = "localhost/pg_mire:17";

/// Starts a server in the container, uses the extension, and fails at the first surprise.
const SMOKE: &str = include_str!("smoke.sh");

/// What builds and runs the image.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Engine {
    /// A Docker engine
    #[default]
    Docker,
    /// Podman as one uses it
    Podman,
    /// buildah and podman inside a container or sandbox, with the base images already in local storage
    Nested,
}

impl Engine {
    fn build(self) -> Vec<&'static str> {
        match self {
            Self::Docker => vec!["docker", "build"],
            Self::Podman => vec!["podman", "build"],
            Self::Nested => {
                vec![
                    "buildah",
                    "bud",
                    "--isolation",
                    "chroot",
                    "--pull-never",
                    "--layers",
                ]
            }
        }
    }

    fn run(self) -> Vec<&'static str> {
        match self {
            Self::Docker => vec!["docker", "run"],
            Self::Podman => vec!["podman", "run"],
            // A sandbox seldom hands out network namespaces, cgroups or higher limits.
            Self::Nested => vec![
                "podman",
                "--cgroup-manager",
                "cgroupfs",
                "--runtime",
                "runc",
                "run",
                "--network",
                "host",
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=4096:4096",
            ],
        }
    }

    fn inspect(self) -> Command {
        command(&[
            if matches!(self, Self::Docker) {
                "docker"
            } else {
                "podman"
            },
            "image",
            "inspect",
        ])
    }
}

pub(crate) fn run(engine: Engine) -> Result<()> {
    say(format!("building {TAG} …"));
    show(command(&engine.build()).args(["-t", TAG, "."]))?;
    let size = quiet(engine.inspect().args(["--format", "{{.Size}}", TAG]))?;
    let bytes: f64 = size
        .trim()
        .parse()
        .context("the engine does not tell the image's size")?;
    say(format!("the image has {:.0} MB", bytes / 1e6));
    smoke(engine)
}

fn smoke(engine: Engine) -> Result<()> {
    say("trying it …");
    let mut child = command(&engine.run())
        .args([
            "--rm",
            "-i",
            "--user",
            "postgres",
            "--entrypoint",
            "bash",
            TAG,
            "-s",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the container")?;
    let mut input = child
        .stdin
        .take()
        .context("the container has no standard input")?;
    input
        .write_all(SMOKE.as_bytes())
        .context("the container does not listen")?;
    drop(input);
    let status = child.wait().context("waiting for the container")?;
    ensure!(status.success(), "the image does not work ({status})");
    say("the image works");
    Ok(())
}

fn command(line: &[&str]) -> Command {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).current_dir(root());
    command
}
