//! Projections that catch up: P1, P2 and B11.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::catch_up::pages;
use super::generate::{Generated, with_events};
use crate::entry::Content;
use crate::figures::{float, number};
use crate::floors::PAGE;
use crate::row::{Measure, Role, Row, Target};
use crate::side::{Ready, Side, Work};
use crate::stores::{Manner, Mire, Ours, Seen, Store};
use crate::world::{Sizes, World};

/// Long enough for anything but standing still.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn rows(sizes: Sizes) -> Vec<Row> {
    const UNIT: Measure = Measure::Rate("events/s");
    const UPSERTS: usize = 20_000;
    const SHARED: usize = 200;
    let events = sizes.feed;
    let p2 = |id, what, manner| {
        Row::new(id, what, UNIT)
            .ours(catch_up::<Ours>(UPSERTS, 1, manner, false))
            .mire(catch_up::<Mire>(UPSERTS, 1, manner, false))
    };
    vec![
        Row::new(
            "P1",
            format!(
                "one subscription catches up on {} events, batch handler",
                number(float(events))
            ),
            UNIT,
        )
        .ours(catch_up::<Ours>(events, 1, Manner::Sum, false))
        .mire(catch_up::<Mire>(events, 1, Manner::Sum, false))
        .floor(pages::<i64>(PAGE, events))
        .target(Target::Figure(300_000.0))
        .target(Target::Ratio(Role::Floor, 0.5)),
        p2(
            "P2",
            "transactional handler, one row upserted an event, 20,000 events",
            Manner::Transactional,
        )
        .target(Target::Ratio(Role::Mire, 5.0)),
        p2(
            "P2/batch",
            "the same with batch handlers that upsert a page's rows at once",
            Manner::Batch,
        ),
        Row::new(
            "B11",
            "16 subscriptions catch up on 200 events each",
            Measure::Rate("handled/s"),
        )
        .ours(catch_up::<Ours>(SHARED, 16, Manner::Plain, false))
        .mire(catch_up::<Mire>(SHARED, 16, Manner::Plain, false))
        .target(Target::Ratio(Role::Mire, 5.0)),
        Row::new(
            "B11/used",
            "the same with a store that has done so before, with other subscriptions",
            Measure::Rate("handled/s"),
        )
        .ours(catch_up::<Ours>(SHARED, 16, Manner::Plain, true))
        .mire(catch_up::<Mire>(SHARED, 16, Manner::Plain, true)),
    ]
}

/// A log of so many events. Small ones are appended, one to a stream.
async fn log<S: Generated>(world: &World, events: usize) -> Result<String> {
    if events > 1_000 {
        let name = if events == world.sizes.feed {
            S::FEED.to_owned()
        } else {
            format!("{}_{events}", S::FEED)
        };
        with_events::<S>(world, &name, events).await?;
        return Ok(name);
    }
    let name = format!("{}_{events}", S::DATABASE);
    let make = async {
        S::create(world, &name).await?;
        let store = S::connect(world, &name).await?;
        for _ in 0..events {
            store.append(&world.fresh_id(), Content::Small, 1).await?;
        }
        Ok(())
    };
    world.once(&name, make).await?;
    Ok(name)
}

/// So many subscriptions, all new, until each has been given everything. The store is new as well, or has been `used` for the
/// same before.
fn catch_up<S: Generated>(events: usize, subscriptions: usize, manner: Manner, used: bool) -> Side {
    Side::new(move |world| async move {
        let database = log::<S>(&world, events).await?;
        let writes = manner != Manner::Plain;
        if writes {
            let tables = format!("DROP TABLE IF EXISTS read_model; {}", Manner::TABLE);
            let client = world.connect_to(&database).await?;
            client.batch_execute(&tables).await?;
        }
        let store = S::connect(&world, &database).await?;
        let handled = events * subscriptions;
        let sum = i64::try_from(handled)?;
        if used {
            caught_up(&world, &store, subscriptions, manner, sum).await?;
        }
        let of = Arc::clone(&world);
        let work = async move {
            let elapsed = caught_up(&of, &store, subscriptions, manner, sum).await?;
            Ok(Work::of(handled).within(elapsed))
        };
        Ok(Ready::new(work, async move {
            if writes {
                let client = world.connect_to(&database).await?;
                let total: i64 = client
                    .query_one("SELECT coalesce(sum(total), 0)::int8 FROM read_model", &[])
                    .await?
                    .get(0);
                ensure!(total == sum, "the read model adds up to {total}, not {sum}");
            }
            Ok(())
        }))
    })
}

/// How long it takes until handlers that add up have come to this sum.
async fn caught_up<S: Store>(
    world: &World,
    store: &S,
    subscriptions: usize,
    manner: Manner,
    sum: i64,
) -> Result<Duration> {
    let names = (0..subscriptions)
        .map(|_| format!("reader{}", world.fresh_number()))
        .collect();
    let seen = Arc::new(Seen::nothing());
    let started = Instant::now();
    let running = store.project(names, manner, Arc::clone(&seen)).await?;
    seen.reaches(sum, PATIENCE).await?;
    let elapsed = started.elapsed();
    S::stop(running).await?;
    ensure!(
        seen.sum() == sum,
        "handlers were given {} of {sum}",
        seen.sum()
    );
    Ok(elapsed)
}
