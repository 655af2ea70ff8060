//! `cargo xtask demo`: the main job on real input.

use std::ffi::OsString;
use std::io::IsTerminal;

use anyhow::{Result, ensure};
use mire_cluster::Cluster;

use crate::run::{cargo, root, say, show};
use crate::{Target, cluster, install};

/// The read side on real input, then sagas: a booking that succeeds and one that is undone.
const EXAMPLES: [(&str, &str); 2] = [("mire-client", "flights"), ("mire-sagas", "travel_booking")];

/// Builds everything first, so that what the user then watches is the store and not the compiler.
pub(crate) fn run(target: &Target, psql: bool) -> Result<u8> {
    let pg = install::run(target, true, None)?;
    say("building the client and the demo …");
    for (package, example) in EXAMPLES {
        let build = [
            "build",
            "--quiet",
            "--release",
            "-p",
            package,
            "--example",
            example,
        ];
        show(cargo().args(build))?;
    }
    let cluster = Cluster::builder().server(pg.server()?).start()?;
    say(format!(
        "PostgreSQL {} is up, empty but for the extension",
        cluster.server().version()
    ));
    for (_, example) in EXAMPLES {
        let program: OsString = root().join("target/release/examples").join(example).into();
        ensure!(
            cluster::inside(&cluster, &[program])? == 0,
            "the demo failed: {example}"
        );
    }
    if psql {
        cluster::inside(&cluster, &["psql".into()])?;
    } else if std::io::stdin().is_terminal() {
        say("the cluster stays until you press Enter");
        std::io::stdin().read_line(&mut String::new())?;
    } else {
        say("that cluster is gone now; `cargo xtask demo --psql` stays in it");
    }
    Ok(0)
}
