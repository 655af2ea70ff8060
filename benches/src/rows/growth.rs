//! G1: what a store of millions of events costs against one of 200,000.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mire_client::EventStore;

use super::append::WARM_UP;
use super::catch_up::{caught_up, check};
use super::generate::{EVENTS_PER_STREAM, grow, with_events};
use crate::entry::{Content, Ledger};
use crate::figures::{float, number};
use crate::rounds::{self, Measured};
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work, together};
use crate::stores::{Ours, Store};
use crate::world::World;

const SMALL: usize = 200_000;
const SMALL_STORE: &str = "small";
const GROWN_STORE: &str = "grown";

/// What was measured at one size.
pub(crate) struct Growth {
    pub(crate) rows: Vec<Measured>,
}

impl Growth {
    /// The small store's size.
    pub(crate) const FROM: f64 = 200_000.0;

    /// Lets a store grow, and measures it beside the small one at every size.
    pub(crate) async fn measure(
        world: &Arc<World>,
        rounds: usize,
        wanted: impl Fn(&Row) -> bool,
    ) -> Result<Vec<Self>> {
        let goal = world.sizes.growth;
        ensure_room(world, goal)?;
        with_events::<Ours>(world, SMALL_STORE, SMALL).await?;
        with_events::<Ours>(world, GROWN_STORE, SMALL).await?;
        let steps = [goal / 100, goal / 10, goal];
        let mut there = SMALL;
        let mut growth = Vec::new();
        for events in steps.into_iter().filter(|step| *step > SMALL) {
            grow::<Ours>(world, GROWN_STORE, there, events).await?;
            there = events;
            let mut rows = Self::rows(events);
            rows.retain(&wanted);
            let rows = rounds::run(world, &rows, rounds).await?;
            growth.push(Self { rows });
        }
        Ok(growth)
    }

    /// All of them, at one size.
    pub(crate) fn rows(events: usize) -> Vec<Row> {
        let row = |id: &str, what: &str, unit, side: fn(&'static str, usize) -> Side| {
            let at = |events| number(float(events));
            let what = format!("{what}: {} events (floor: {})", at(events), at(SMALL));
            Row::new(id, what, Measure::Rate(unit))
                .ours(side(GROWN_STORE, events))
                .floor(side(SMALL_STORE, SMALL))
                .target(Target::Ratio(Role::Floor, 1.0 / 1.3))
                .at(float(events))
        };
        vec![
            row("G1/append", "append 1, 32 tasks", "events/s", appends),
            row(
                "G1/load",
                "load 10 events, streams at random",
                "loads/s",
                loads,
            ),
            row(
                "G1/catch-up",
                "`read_all` of 100,000 from the middle",
                "events/s",
                catch_up,
            ),
            row(
                "G1/status",
                "`subscription_status` and `stats`",
                "looks/s",
                status,
            ),
        ]
    }
}

/// Fails unless the disk holds so many events and their WAL.
fn ensure_room(world: &World, events: usize) -> Result<()> {
    const BYTES_AN_EVENT: usize = 600;
    const WAL: usize = 20 << 30;
    let df = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(world.cluster().folder())
        .output()
        .context("cannot ask df")?;
    let said = String::from_utf8_lossy(&df.stdout);
    let free = said
        .lines()
        .nth(1)
        .and_then(|line| line.trim().parse().ok());
    let free: usize = free.with_context(|| format!("df said {said:?}"))?;
    let needed = events * BYTES_AN_EVENT + WAL;
    ensure!(
        free > needed,
        "{events} events need {needed} bytes of disk, and {free} are free: try fewer"
    );
    Ok(())
}

fn appends(database: &'static str, _: usize) -> Side {
    const TASKS: usize = 32;
    const EACH: usize = 100;
    Side::new(move |world| async move {
        let store = Ours::open(&world, database).await?;
        let ids: Vec<String> = (0..TASKS).map(|_| world.fresh_id()).collect();
        Ok(Ready::new(
            async move {
                together(ids.into_iter().map(|id| {
                    let store = store.clone();
                    async move {
                        let mut version = 0;
                        for _ in 0..EACH {
                            version = store.append(&id, Content::Booking, 1).await?;
                        }
                        ensure!(
                            usize::try_from(version) == Ok(EACH),
                            "{id} is at version {version}"
                        );
                        Ok(())
                    }
                }))
                .await?;
                Ok(Work::of(TASKS * EACH))
            },
            async { Ok(()) },
        ))
    })
}

fn loads(database: &'static str, events: usize) -> Side {
    const LOADS: usize = 5_000;
    /// Coprime to the number of streams: consecutive loads are far apart, and the same ones in every round.
    const STRIDE: usize = 7_919_993;
    Side::new(move |world| async move {
        let store = Ours::open(&world, database).await?;
        let streams = events / EVENTS_PER_STREAM;
        let first = usize::try_from(world.fresh_number())?;
        let work = async move {
            for load in 0..LOADS {
                let id = 1 + (first + load) * STRIDE % streams;
                let ledger = store.0.load::<Ledger>(id).await?;
                ensure!(
                    usize::try_from(ledger.state().total) == Ok(EVENTS_PER_STREAM),
                    "{id} adds up to {}",
                    ledger.state().total
                );
            }
            Ok(Work::of(LOADS))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

fn catch_up(database: &'static str, events: usize) -> Side {
    const READ: usize = 100_000;
    Side::new(move |world| async move {
        let store = EventStore::connect(&world.url(database)).await?;
        let middle = i64::try_from(events / 2)?;
        caught_up(&store, middle, 1_000).await?;
        let work = async move {
            check(&caught_up(&store, middle, READ).await?, READ)?;
            Ok(Work::of(READ))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}

fn status(database: &'static str, _: usize) -> Side {
    const LOOKS: usize = 200;
    const CREATE: &str = "SELECT mire.create_subscription('watched', NULL, NULL, 0, 4)";
    const LOOK: &str = "
        SELECT (SELECT count(*) FROM mire.subscription_status),
               (SELECT max(last_position) + max(events_bytes) FROM mire.stats)";
    Side::new(move |world| async move {
        let client = world.connect_to(database).await?;
        let create = async { Ok(client.batch_execute(CREATE).await?) };
        let name = format!("a subscription of {database}");
        world.once(&name, create).await?;
        let look = client.prepare(LOOK).await?;
        for _ in 0..WARM_UP {
            client.query_one(&look, &[]).await?;
        }
        let work = async move {
            for _ in 0..LOOKS {
                let row = client.query_one(&look, &[]).await?;
                let partitions: i64 = row.try_get(0)?;
                ensure!(partitions == 4, "{partitions} partitions are shown");
            }
            Ok(Work::of(LOOKS))
        };
        Ok(Ready::new(work, async { Ok(()) }))
    })
}
