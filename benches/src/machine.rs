//! What it was measured on, and what the disk can do.

use std::fmt;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::figures::{Spread, float, number};
use crate::floors::durable_commits;
use crate::world::World;

/// The lines above the table.
pub(crate) struct Machine {
    lines: Vec<String>,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines
            .iter()
            .try_for_each(|line| writeln!(f, "- {line}"))
    }
}

/// Settings that are told whatever they are: figures without them mean nothing.
const SETTINGS: &str = "
    SELECT string_agg(format('%s=%s', name, current_setting(name)), ', ' ORDER BY name)
      FROM pg_settings
     WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'wal_sync_method', 'commit_delay',
                    'max_connections', 'shared_buffers', 'checkpoint_timeout', 'max_wal_size', 'autovacuum', 'jit',
                    'max_parallel_workers_per_gather')";

/// Looks at the machine and the server, and measures durable commits from 1, 32 and 256 connections.
pub(crate) async fn describe(world: &Arc<World>) -> Result<Machine> {
    let row = world
        .observer
        .query_one(
            "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), current_setting('server_version'),
                    (SELECT default_version FROM pg_available_extensions WHERE name = 'pg_mire')",
            &[],
        )
        .await?;
    let (date, postgres, mire): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let settings: String = world.observer.query_one(SETTINGS, &[]).await?.get(0);
    let mut commits = Vec::new();
    for (tasks, each) in [(1, 300), (32, 50), (256, 20)] {
        let work = durable_commits(world, tasks, each).await?;
        let started = Instant::now();
        work.await?;
        let rate = float(tasks * each) / started.elapsed().as_secs_f64();
        commits.push(format!("{} at {tasks}", number(rate)));
    }
    let sync = sync_time(world)?;
    Ok(Machine {
        lines: vec![
            format!("{date} UTC; PostgreSQL {postgres}; pg_mire {mire}, release build"),
            format!("{}; load average before the run: {}", hardware(), load()),
            format!("Settings: {settings}"),
            format!(
                "Disk: writing and syncing 8 KiB takes {} ms (median; {} to {})",
                number(sync.median),
                number(sync.min),
                number(sync.max)
            ),
            format!(
                "Commit floor, empty durable commits a second by number of connections: {}",
                commits.join(", ")
            ),
        ],
    })
}

/// The kernel's load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = text.split_whitespace().take(3).collect();
    averages.join(" ")
}

fn hardware() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpu, "model name").unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let gib = memory_mib().div_ceil(1024);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, {gib} GiB, Linux {}", kernel.trim())
}

/// The machine's memory; 0 when it does not say.
pub(crate) fn memory_mib() -> u64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    field(&memory, "MemTotal")
        .and_then(|kb| kb.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kb| kb / 1024)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
        .map(str::trim)
}

/// Milliseconds for what a commit at least does: write a page and wait until the disk has it.
fn sync_time(world: &World) -> Result<Spread> {
    const TIMES: usize = 200;
    let path = world.cluster().folder().join("sync-test");
    let mut file = File::create(&path).context("cannot make a file beside the data")?;
    let page = [7_u8; 8192];
    let mut times = Vec::with_capacity(TIMES);
    // The first pass makes the file; the others overwrite it, as WAL is.
    for _ in 0..=TIMES {
        let started = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    std::fs::remove_file(&path)?;
    let millis = |time: &Duration| time.as_secs_f64() * 1e3;
    Spread::of(times.iter().skip(1).map(millis)).context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:       24590300 kB\nmodel name\t: Some CPU @ 2 GHz\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(field(text, "MemTotal"), Some("24590300 kB"));
        assert_eq!(field(text, "model"), None);
    }
}
