//! `cargo xtask demo`: the main job on real input.

use std::ffi::OsString;
use std::io::IsTerminal;

use anyhow::{Result, ensure};
use mire_cluster::Cluster;

use crate::run::{cargo, root, say, show};
use crate::{Target, cluster, install};

const EXAMPLE: [&str; 5] = ["--release", "-p", "mire-client", "--example", "flights"];

/// Builds everything first, so that what the user then watches is the store and not the compiler.
pub(crate) fn run(target: &Target, psql: bool) -> Result<u8> {
    let pg = install::run(target, true, None)?;
    say("building the client and the demo …");
    show(cargo().args(["build", "--quiet"]).args(EXAMPLE))?;
    let cluster = Cluster::builder().server(pg.server()?).start()?;
    say(format!(
        "PostgreSQL {} is up, empty but for the extension",
        cluster.server().version()
    ));
    let example: OsString = root().join("target/release/examples/flights").into();
    let code = cluster::inside(&cluster, &[example])?;
    ensure!(code == 0, "the demo failed");
    if psql {
        cluster::inside(&cluster, &["psql".into()])?;
    } else if std::io::stdin().is_terminal() {
        say("the cluster stays until you press Enter");
        std::io::stdin().read_line(&mut String::new())?;
    } else {
        say("that cluster is gone now; `cargo xtask demo --psql` stays in it");
    }
    Ok(code)
}
